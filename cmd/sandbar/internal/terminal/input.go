//go:build unix

package terminal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Input reads a file in a way that Close ends: a plain read of a terminal or a
// pipe cannot be interrupted, and would outlive the command it was for and
// swallow what the user types next.
type Input struct {
	file  *os.File
	wakeR *os.File
	wakeW *os.File
	once  sync.Once
}

// NewInput returns an Input for a file, which it does not own.
func NewInput(f *os.File) (*Input, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a wake-up pipe: %w", err)
	}
	return &Input{file: f, wakeR: r, wakeW: w}, nil
}

// Read waits for input, its end, or Close, which gives io.EOF.
func (in *Input) Read(p []byte) (int, error) {
	fds := []unix.PollFd{
		{Fd: int32(in.file.Fd()), Events: unix.POLLIN},
		{Fd: int32(in.wakeR.Fd()), Events: unix.POLLIN},
	}
	for {
		_, err := unix.Poll(fds, -1)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("wait for standard input: %w", err)
		}
		if fds[1].Revents != 0 {
			return 0, io.EOF
		}
		n, err := in.file.Read(p)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		return n, err
	}
}

// Close ends a Read that waits. The pipe itself is closed by Release, once no
// Read is running.
func (in *Input) Close() { in.once.Do(func() { _ = in.wakeW.Close() }) }

// Release frees the pipe; call it after the reader has ended.
func (in *Input) Release() {
	in.Close()
	_ = in.wakeR.Close()
}
