package storage

import "fmt"

// Codec turns what people said into the bytes kept at rest, and back. The
// first byte names the key: 0 is no key, the bytes follow as they are.
//
// Message texts, previews, event bodies and job payloads pass through it in
// every engine, so encryption is a change here and not of the schema. Bytes
// also keep what Postgres refuses in a text column, such as U+0000.
type Codec struct{}

// plainKey is the key id of bytes that are not encrypted.
const plainKey = 0

// Seal returns what to store. It does not keep or change plain.
func (Codec) Seal(plain []byte) []byte {
	sealed := make([]byte, 1+len(plain))
	sealed[0] = plainKey
	copy(sealed[1:], plain)
	return sealed
}

// Open returns what Seal was given, sharing memory with sealed. Bytes under a
// key this process does not have are an error and never passed off as text.
func (Codec) Open(sealed []byte) ([]byte, error) {
	switch {
	case len(sealed) == 0:
		return nil, fmt.Errorf("storage: stored bytes lack their key id")
	case sealed[0] != plainKey:
		return nil, fmt.Errorf("storage: stored bytes are under key %d, which is not known here", sealed[0])
	}
	return sealed[1:], nil
}
