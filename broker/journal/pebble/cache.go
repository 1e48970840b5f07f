package pebble

// cacheEntries is how many numbers one generation of a cache holds.
const cacheEntries = 1 << 16

// cache remembers numbers by name, within bounds: what was not used for a
// generation is forgotten. One goroutine uses it.
type cache struct {
	young, old map[string]uint64
}

func (c *cache) get(name string) (n uint64, ok bool) {
	if n, ok = c.young[name]; ok {
		return n, true
	}
	if n, ok = c.old[name]; ok {
		c.set(name, n)
	}
	return n, ok
}

func (c *cache) set(name string, n uint64) {
	if c.young == nil {
		c.young = map[string]uint64{}
	}
	c.young[name] = n
}

// trim forgets a generation when it is time. What was set since the last trim stays.
func (c *cache) trim() {
	if len(c.young) > cacheEntries {
		c.old, c.young = c.young, nil
	}
}

func (c *cache) clear() { c.young, c.old = nil, nil }
