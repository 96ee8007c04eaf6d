package e2e_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

// slowInput is input that stops in its middle until it may go on.
type slowInput struct {
	data       []byte
	at, step   int
	half, goOn chan struct{}
}

func newSlowInput(size, steps int) *slowInput {
	data := make([]byte, size)
	for i := 0; i+4 <= size; i += 4 {
		binary.LittleEndian.PutUint32(data[i:], uint32(i))
	}
	return &slowInput{data: data, step: size / steps, half: make(chan struct{}), goOn: make(chan struct{})}
}

func (s *slowInput) digest() string { return fmt.Sprintf("%x", sha256.Sum256(s.data)) }

func (s *slowInput) Read(p []byte) (int, error) {
	if s.at == len(s.data) {
		return 0, io.EOF
	}
	if s.at == s.step*(len(s.data)/s.step/2) {
		close(s.half)
		<-s.goOn
	}
	n := copy(p[:min(len(p), s.step-s.at%s.step)], s.data[s.at:])
	s.at += n
	return n, nil
}
