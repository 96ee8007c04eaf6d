package fake

import (
	"errors"
	"io"
	"math"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// file is what a descriptor leads to.
type file interface {
	read(p *process, b []byte) (int, error)
	write(p *process, b []byte) (int, error)
	info(p *process) system.Info
	// release is the last close.
	release(p *process)
}

// openFile is an open file, which several descriptors may share.
type openFile struct {
	file
	flags int
	refs  atomic.Int32
}

func newOpen(f file, flags int) *openFile {
	o := &openFile{file: f, flags: flags}
	o.refs.Store(1)
	return o
}

// slot is a descriptor.
type slot struct {
	open *openFile
	// closeOnExec is set for descriptors that Dup made.
	closeOnExec bool
}

func (s slot) retain() { s.open.refs.Add(1) }

func (s slot) release(p *process) {
	if s.open.refs.Add(-1) == 0 {
		s.open.release(p)
	}
}

// maxFiles is how many descriptors a process may have, as usual on Linux.
const maxFiles = 1024

// install gives a file the lowest free descriptor.
func (p *process) install(s slot, least int) (int, error) {
	for fd := least; fd < maxFiles; fd++ {
		if p.files[fd].open == nil {
			p.files[fd] = s
			return fd, nil
		}
	}
	s.release(p)
	return 0, syscall.EMFILE
}

// Close implements system.Process. It is no checkpoint, so that a process on its
// way out can close.
func (p *process) Close(fd int) error {
	s := p.files[fd]
	if s.open == nil {
		return syscall.EBADF
	}
	delete(p.files, fd)
	s.release(p)
	return nil
}

// Dup implements system.Process.
func (p *process) Dup(fd, least int) (int, error) {
	p.Checkpoint()
	s := p.files[fd]
	if s.open == nil {
		return 0, syscall.EBADF
	}
	s.retain()
	s.closeOnExec = true
	return p.install(s, least)
}

// Dup2 implements system.Process.
func (p *process) Dup2(from, to int) error {
	p.Checkpoint()
	s := p.files[from]
	if s.open == nil || to < 0 || to >= maxFiles {
		return syscall.EBADF
	}
	if from == to {
		return nil
	}
	s.retain()
	s.closeOnExec = false
	if old := p.files[to]; old.open != nil {
		old.release(p)
	}
	p.files[to] = s
	return nil
}

// Pipe implements system.Process.
func (p *process) Pipe() (r, w int, err error) {
	p.Checkpoint()
	q := newPipe(1)
	r, err = p.install(slot{open: newOpen(&pipeEnd{pipe: q, reads: true}, os.O_RDONLY)}, 0)
	if err != nil {
		return 0, 0, err
	}
	w, err = p.install(slot{open: newOpen(&pipeEnd{pipe: q}, os.O_WRONLY)}, 0)
	if err != nil {
		_ = p.Close(r) // it is open
		return 0, 0, err
	}
	return r, w, nil
}

// Read implements system.Process.
func (p *process) Read(fd int, b []byte) (int, error) {
	p.Checkpoint()
	s := p.files[fd]
	if s.open == nil || s.open.flags&os.O_WRONLY != 0 {
		return 0, syscall.EBADF
	}
	return s.open.read(p, b)
}

// Write implements system.Process.
func (p *process) Write(fd int, b []byte) (int, error) {
	p.Checkpoint()
	s := p.files[fd]
	if s.open == nil || s.open.flags&(os.O_WRONLY|os.O_RDWR) == 0 {
		return 0, syscall.EBADF
	}
	n, err := s.open.write(p, b)
	if errors.Is(err, syscall.EPIPE) {
		p.deliver(system.SIGPIPE)
		p.Checkpoint()
	}
	return n, err
}

// Fstat implements system.Process.
func (p *process) Fstat(fd int) (system.Info, error) {
	p.Checkpoint()
	s := p.files[fd]
	if s.open == nil {
		return system.Info{}, syscall.EBADF
	}
	return s.open.info(p), nil
}

// Terminal implements system.Process.
func (p *process) Terminal(fd int) system.Terminal {
	p.Checkpoint()
	if s := p.files[fd]; s.open != nil {
		if t, ok := s.open.file.(*terminalFile); ok {
			return t.terminal
		}
	}
	return nil
}

// Seek implements system.Process.
func (p *process) Seek(fd int, offset int64, whence int) (int64, error) {
	p.Checkpoint()
	s := p.files[fd]
	if s.open == nil {
		return 0, syscall.EBADF
	}
	f, ok := s.open.file.(*regularFile)
	if !ok {
		return 0, syscall.ESPIPE
	}
	p.cloud.mu.Lock()
	defer p.cloud.mu.Unlock()
	base := map[int]int64{io.SeekStart: 0, io.SeekCurrent: f.at, io.SeekEnd: int64(len(f.node.Data))}[whence]
	if base+offset < 0 || base+offset > math.MaxInt32 {
		return 0, syscall.EINVAL
	}
	f.at = base + offset
	return f.at, nil
}

// reading is the loop of a read that may wait.
func (p *process) reading(try func() (int, <-chan struct{}, error)) (int, error) {
	for {
		n, wake, err := try()
		if wake == nil {
			p.Checkpoint()
			return n, err
		}
		if err := p.await(wake); err != nil {
			return 0, err
		}
	}
}

// writing writes all of b to a pipe.
func (p *process) writing(q *pipe, b []byte) (int, error) {
	written := 0
	for {
		n, wake, err := q.tryWrite(b[written:])
		written += n
		if err != nil || written == len(b) {
			return written, err
		}
		if wake == nil {
			continue
		}
		if err := p.await(wake); err != nil {
			return written, err
		}
	}
}

// pipeEnd is one end of a pipe.
type pipeEnd struct {
	pipe  *pipe
	reads bool
}

func (e *pipeEnd) read(p *process, b []byte) (int, error) {
	return p.reading(func() (int, <-chan struct{}, error) { return e.pipe.tryRead(b) })
}

func (e *pipeEnd) write(p *process, b []byte) (int, error) { return p.writing(e.pipe, b) }

func (e *pipeEnd) info(*process) system.Info {
	return system.Info{Kind: system.Pipe, Mode: 0o600, ID: e.pipe}
}

func (e *pipeEnd) release(*process) {
	if e.reads {
		e.pipe.adds(-1, 0)
	} else {
		e.pipe.adds(0, -1)
	}
}
