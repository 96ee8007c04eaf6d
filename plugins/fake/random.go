package fake

import (
	"io"
	"math/rand/v2"
)

// NewRandom returns the bytes of the fake's /dev/urandom: endless, incompressible
// and the same every time.
func NewRandom() io.Reader {
	return rand.NewChaCha8([32]byte([]byte("sandbar fake deterministic bytes")))
}

// zeros is /dev/zero.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
