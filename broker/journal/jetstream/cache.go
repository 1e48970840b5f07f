package jetstream

// cacheEntries is how many states one generation of a cache holds.
const cacheEntries = 1 << 15

// place is what is known of a record or an inbox.
type place struct {
	seq     uint64 // of its last message; 0 when there is none
	version uint64 // of a record that exists; the last number of an inbox
}

// cache remembers places by name, within bounds: what was not used for a
// generation is forgotten. One goroutine uses it.
type cache struct {
	young, old map[string]place
}

func (c *cache) get(name string) (p place, ok bool) {
	if p, ok = c.young[name]; ok {
		return p, true
	}
	if p, ok = c.old[name]; ok {
		c.set(name, p)
	}
	return p, ok
}

func (c *cache) set(name string, p place) {
	if c.young == nil {
		c.young = map[string]place{}
	}
	c.young[name] = p
}

func (c *cache) drop(name string) {
	delete(c.young, name)
	delete(c.old, name)
}

// trim forgets a generation when it is time. What was set since the last trim stays.
func (c *cache) trim() {
	if len(c.young) > cacheEntries {
		c.old, c.young = c.young, nil
	}
}

func (c *cache) clear() { c.young, c.old = nil, nil }
