package system

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// Descriptor is an open file of a process as Go's readers and writers. Writes
// that were interrupted by a caught signal go on.
type Descriptor struct {
	P  Process
	FD int
}

// Stdin is a process's standard input.
func Stdin(p Process) Descriptor { return Descriptor{p, 0} }

// Stdout is a process's standard output.
func Stdout(p Process) Descriptor { return Descriptor{p, 1} }

// Stderr is a process's standard error.
func Stderr(p Process) Descriptor { return Descriptor{p, 2} }

// Read implements io.Reader.
func (d Descriptor) Read(b []byte) (int, error) {
	for {
		n, err := d.P.Read(d.FD, b)
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}

// Write implements io.Writer.
func (d Descriptor) Write(b []byte) (int, error) {
	written := 0
	for {
		n, err := d.P.Write(d.FD, b[written:])
		written += n
		if !errors.Is(err, syscall.EINTR) {
			return written, err
		}
	}
}

// Close implements io.Closer.
func (d Descriptor) Close() error { return d.P.Close(d.FD) }

// ReadFile reads a file as a whole, and takes the memory for it.
func ReadFile(p Process, name string) ([]byte, error) {
	fd, err := p.Open(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	file := Descriptor{p, fd}
	defer func() { _ = file.Close() }() // it was only read
	return ReadAll(p, file)
}

// ReadAll is io.ReadAll that takes the memory from the sandbox as it grows.
func ReadAll(p Process, r io.Reader) ([]byte, error) {
	const step = 64 << 10
	var out []byte
	for {
		if cap(out)-len(out) < step {
			size := 2*cap(out) + step
			p.Alloc(int64(size - cap(out))) // first, so that what a sandbox cannot have costs nothing
			grown := make([]byte, len(out), size)
			copy(grown, out)
			out = grown
		}
		n, err := r.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
	}
}
