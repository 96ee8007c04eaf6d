package agent

import (
	"errors"
	"io"
	"path/filepath"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// rawFile is a file descriptor used with blocking system calls; see the package comment for why it is no os.File.
// Its owner closes it exactly once.
type rawFile int

// openStream opens the FIFO called name. The shim holds the other end open, so the open cannot block.
// An empty name is the null device.
func openStream(name string, flags int) (rawFile, error) {
	path := "/dev/null"
	if name != "" {
		// Base keeps a name inside the directory, whatever the shim was made to send.
		path = filepath.Join(wire.IODir, filepath.Base(name))
	}
	fd, err := retry(func() (int, error) { return syscall.Open(path, flags|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0) })
	if err != nil {
		return -1, err
	}
	// No other flag is set that could be lost.
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_SETFL, 0); errno != 0 {
		_ = syscall.Close(fd)
		return -1, errno
	}
	return rawFile(fd), nil
}

func (f rawFile) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := retry(func() (int, error) { return syscall.Read(int(f), p) })
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (f rawFile) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := retry(func() (int, error) { return syscall.Write(int(f), p[done:]) })
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

func (f rawFile) Close() error {
	if f < 0 {
		return nil
	}
	return syscall.Close(int(f))
}

func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}
