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

// enlarge asks for a pipe of pipeBytes.
func (r *Reader) enlarge() { enlarge(r.rc) }

func enlarge(rc syscall.RawConn) {
	_ = rc.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeBytes) })
}

// SetReadDeadline makes a pending Read return os.ErrDeadlineExceeded at t; zero takes the deadline away.
func (r *Reader) SetReadDeadline(t time.Time) error { return r.f.SetReadDeadline(t) }

// Empty says that a Read would wait: nothing is in the pipe, and the guest still has its end open. It lasts while the guest is stopped.
func (r *Reader) Empty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	empty := false
	_ = r.rc.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		empty = n == 0 && err == nil
	})
	return empty
}

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

// Close makes further writes in the guest fail with EPIPE. The FIFO keeps its name while somebody in the guest has it open, because a
// restore opens it again.
func (r *Reader) Close() error {
	_ = r.rc.Control(func(fd uintptr) {
		state := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(state, 0); err == nil && n == 1 && state[0].Revents&unix.POLLHUP != 0 {
			_ = os.Remove(r.path)
		}
	})
	return r.f.Close()
}

// Writer is the host's end of what the guest reads. Its owner closes it, which is the guest's end of file.
type Writer struct {
	name string
	path string
	f    *os.File
	rc   syscall.RawConn

	// mu makes putting bytes into the pipe one step, as seen by a checkpoint: it is held while the guest's unread bytes are out of
	// the pipe, so that nothing overtakes them and no byte counts as written that the checkpoint does not have.
	mu     sync.Mutex
	closed bool
	// held is the pipe itself during a checkpoint, and unread what was in it.
	held   *os.File
	unread []byte
}

// Write blocks while the guest does not read. It fails with EPIPE once the guest has closed its end.
func (w *Writer) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := w.writeSome(p[done:])
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (w *Writer) writeSome(p []byte) (n int, err error) {
	cerr := w.rc.Write(func(fd uintptr) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for {
			n, err = unix.Write(int(fd), p)
			if !errors.Is(err, unix.EINTR) {
				break
			}
		}
		return !errors.Is(err, unix.EAGAIN)
	})
	n = max(n, 0)
	switch {
	case cerr != nil && !errors.Is(cerr, os.ErrDeadlineExceeded):
		return 0, fmt.Errorf("write stream %q: %w", w.name, os.ErrClosed)
	case cerr != nil:
		return 0, cerr
	case err != nil:
		return n, fmt.Errorf("write stream %q: %w", w.name, err)
	}
	return n, nil
}

// SetWriteDeadline makes a pending Write return os.ErrDeadlineExceeded at t, with the number of bytes that went in.
func (w *Writer) SetWriteDeadline(t time.Time) error { return w.f.SetWriteDeadline(t) }

// Close ends the stream; doing it again is no error. Bytes written before remain readable in the guest. The FIFO keeps its name
// until the exec is released, because a checkpoint must be able to save what was not read yet.
func (w *Writer) Close() error {
	w.mu.Lock()
	closed := w.closed
	w.closed = true
	w.mu.Unlock()
	if closed {
		return nil
	}
	return w.f.Close()
}

// remove takes the name of a closed stream away, unless somebody in the guest still has it open.
func (w *Writer) remove() {
	fd, err := unix.Open(w.path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
		return
	}
	_ = os.Remove(w.path)
}

// hold takes what the guest has not read out of the pipe, and keeps writers waiting until letGo. The guest must be stopped.
func (w *Writer) hold() (unread []byte, closed bool, err error) {
	w.mu.Lock()
	// Both ends at once: the pipe stays the same one even if nobody else has it open.
	f, err := os.OpenFile(w.path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		closed := w.closed
		w.mu.Unlock()
		return nil, closed, nil // the exec was released
	}
	if err == nil {
		if unread, err = drain(f); err != nil {
			err = errors.Join(err, f.Close())
		}
	}
	if err != nil {
		w.mu.Unlock()
		return nil, false, fmt.Errorf("read back stream %q: %w", w.name, err)
	}
	w.held, w.unread = f, unread
	return unread, w.closed, nil
}

// letGo ends hold. With giveBack the unread bytes are in the pipe again; they fit, since they were there before.
func (w *Writer) letGo(giveBack bool) error {
	if w.held == nil {
		return nil
	}
	var err error
	if giveBack {
		err = fill(w.held, w.unread)
	}
	err = errors.Join(err, w.held.Close())
	w.held, w.unread = nil, nil
	w.mu.Unlock()
	if err != nil {
		return fmt.Errorf("give back stream %q: %w", w.name, err)
	}
	return nil
}

// preload puts what a saved guest had not read into the stream, before the guest is there.
func (w *Writer) preload(unread []byte) error {
	if err := fill(w.f, unread); err != nil {
		return fmt.Errorf("refill stream %q: %w", w.name, err)
	}
	return nil
}

// drain reads what waits in a pipe.
func drain(f *os.File) ([]byte, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var unread []byte
	cerr := rc.Control(func(fd uintptr) {
		var waiting int
		if waiting, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ); err != nil {
			return
		}
		unread = make([]byte, waiting)
		for got := 0; got < waiting && err == nil; {
			var n int
			n, err = unix.Read(int(fd), unread[got:])
			got += max(n, 0)
		}
	})
	return unread, errors.Join(cerr, err)
}

// fill writes to a pipe that nobody reads yet. It never waits: a pipe that is smaller than the one the bytes come from, because
// this user has used up his allowance for pipes, is an error.
func fill(f *os.File, p []byte) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	cerr := rc.Control(func(fd uintptr) {
		for len(p) > 0 && err == nil {
			var n int
			n, err = unix.Write(int(fd), p)
			p = p[max(n, 0):]
		}
	})
	if errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("%d bytes do not fit: this user has too many large pipes, see fs.pipe-user-pages-soft: %w", len(p), err)
	}
	return errors.Join(cerr, err)
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
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, nil, errors.Join(err, f.Close(), keep.Close())
	}
	enlarge(rc)
	return &Writer{name: name, path: path, f: f, rc: rc}, keep, nil
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
	return f, nil
}
