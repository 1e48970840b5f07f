package storage

// What one read returns at most, whatever limit it is given.
const (
	MaxPage     = 500 // heads, jobs, audit lines
	MaxMessages = 200
	MaxEvents   = 5000
)

// Limit is how many rows an engine reads for a caller that asked for n: a
// limit below 1 or above most is most.
func Limit(n, most int) int {
	if n < 1 || n > most {
		return most
	}
	return n
}
