package memory_test

import (
	"testing"

	"holdline/storage"
	"holdline/storage/memory"
	"holdline/storage/storagetest"
)

func TestContract(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store {
		s := memory.New()
		t.Cleanup(func() { s.Close() })
		return s
	})
}
