package runsc

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pipeBytes is the capacity asked for a stream: large enough that 150 MiB/s needs few wake-ups, small enough that an ordinary
// user's allowance for pipes (64 MiB) lasts for some hundred streams. Being refused it is no error.
const pipeBytes = 256 << 10

// Reader is the host's end of what the guest writes. Its owner closes it.
type Reader struct {
	name string // in the io directory
	path string
	f    *os.File
	rc   syscall.RawConn

	// mu makes taking bytes and counting them one step, as seen by total.
	mu  sync.Mutex
	off int64
}

// Read returns io.EOF once every writer in the guest has closed its end.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	var n int
	var err error
	cerr := r.rc.Read(func(fd uintptr) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for {
			n, err = unix.Read(int(fd), p)
			if !errors.Is(err, unix.EINTR) {
				break
			}
		}
		if err == nil {
			r.off += int64(n)
		}
		return !errors.Is(err, unix.EAGAIN)
	})
	switch {
	case cerr != nil:
		return 0, cerr
	case err != nil:
		return 0, fmt.Errorf("read stream %q: %w", r.name, err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// SetReadDeadline makes a pending Read return os.ErrDeadlineExceeded at t; zero takes the deadline away.
func (r *Reader) SetReadDeadline(t time.Time) error { return r.f.SetReadDeadline(t) }

// Offset is the number of bytes read since the process started, over all checkpoints.
func (r *Reader) Offset() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.off
}

// total is Offset plus what waits in the pipe. It is exact while the guest is stopped.
func (r *Reader) total() (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	waiting := 0
	var err error
	cerr := r.rc.Control(func(fd uintptr) { waiting, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	if cerr != nil {
		return r.off, nil // closed: nothing more will be read
	}
	return r.off + int64(waiting), err
}

// Close makes further writes in the guest fail with EPIPE.
func (r *Reader) Close() error {
	_ = os.Remove(r.path)
	return r.f.Close()
}

// Writer is the host's end of what the guest reads. Its owner closes it, which is the guest's end of file.
type Writer struct {
	name string
	path string
	f    *os.File
}

// Write blocks while the guest does not read. It fails with EPIPE once the guest has closed its end.
func (w *Writer) Write(p []byte) (int, error) { return w.f.Write(p) }

// SetWriteDeadline makes a pending Write return os.ErrDeadlineExceeded at t, with the number of bytes that went in.
func (w *Writer) SetWriteDeadline(t time.Time) error { return w.f.SetWriteDeadline(t) }

// Close ends the stream. Bytes written before remain readable in the guest. The FIFO keeps its name until the exec is released,
// because a checkpoint must be able to save what was not read yet.
func (w *Writer) Close() error { return w.f.Close() }

func (w *Writer) remove() { _ = os.Remove(w.path) }

// putBack writes what takeUnread returned. It fits: it was in the pipe a moment ago.
func (w *Writer) putBack(unread []byte) error {
	if len(unread) == 0 {
		return nil
	}
	f, err := os.OpenFile(w.path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open stream %q: %w", w.name, err)
	}
	_, err = f.Write(unread)
	return errors.Join(err, f.Close())
}

// newReader makes a FIFO. keep is a write end which its caller closes as soon as the guest has opened its own: without it the
// reader would see an end before the beginning.
func newReader(dir, name string, off int64) (r *Reader, keep *os.File, err error) {
	path := filepath.Join(dir, name)
	f, err := makeFIFO(path, os.O_RDONLY)
	if err != nil {
		return nil, nil, err
	}
	keep, err = os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		_ = f.Close()
		return nil, nil, fmt.Errorf("open stream %q: %w", name, err)
	}
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, nil, errors.Join(err, f.Close(), keep.Close())
	}
	return &Reader{name: name, path: path, f: f, rc: rc, off: off}, keep, nil
}

// newWriter makes a FIFO. keep is a read end which its caller closes as soon as the guest has opened its own: without it the
// write end cannot be opened, and writes would fail.
func newWriter(dir, name string) (w *Writer, keep *os.File, err error) {
	path := filepath.Join(dir, name)
	keep, err = makeFIFO(path, os.O_RDONLY)
	if err != nil {
		return nil, nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		_ = keep.Close()
		return nil, nil, fmt.Errorf("open stream %q: %w", name, err)
	}
	return &Writer{name: name, path: path, f: f}, keep, nil
}

// takeUnread removes and returns what the guest has not read yet. The guest must be stopped.
func (w *Writer) takeUnread() ([]byte, error) {
	f, err := os.OpenFile(w.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the exec was released
	}
	if err != nil {
		return nil, fmt.Errorf("open stream %q: %w", w.name, err)
	}
	defer f.Close()
	waiting := 0
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	if cerr := rc.Control(func(fd uintptr) { waiting, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); cerr != nil || err != nil {
		return nil, errors.Join(cerr, err)
	}
	unread := make([]byte, waiting)
	if _, err := io.ReadFull(f, unread); err != nil {
		return nil, fmt.Errorf("read back stream %q: %w", w.name, err)
	}
	return unread, nil
}

func makeFIFO(path string, flag int) (*os.File, error) {
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, fmt.Errorf("make stream %q: %w", filepath.Base(path), err)
	}
	f, err := os.OpenFile(path, flag|syscall.O_NONBLOCK, 0)
	if err != nil {
		_ = os.Remove(path)
		return nil, fmt.Errorf("open stream %q: %w", filepath.Base(path), err)
	}
	if rc, err := f.SyscallConn(); err == nil {
		_ = rc.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeBytes) })
	}
	return f, nil
}
