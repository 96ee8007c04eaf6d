package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// patch changes a file in place, or makes it. A stream that is cut leaves what came of it.
func (a *agent) patch(req *wire.Request) (func() error, error) {
	a.mu.Lock()
	committed := a.commits[req.ID]
	a.mu.Unlock()
	f, err := openPatched(req)
	if err != nil {
		return nil, err
	}
	in, err := openStream(req.Stdin, syscall.O_RDONLY)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() (err error) {
		defer func() { err = errors.Join(err, f.Close()) }()
		n, err := io.CopyBuffer(struct{ io.Writer }{f}, in, make([]byte, copyBuffer))
		_ = in.Close()
		if err != nil {
			return err // the host waits to hear it before it commits
		}
		if want := <-committed; n != want {
			return fmt.Errorf("write %q: stream ended after %d bytes: %w", req.Path, n, syscall.ECANCELED)
		}
		return nil
	}, nil
}

// openPatched opens a file where it is to be written.
func openPatched(req *wire.Request) (_ *os.File, err error) {
	who, err := lookupUser(req.User)
	if err != nil {
		return nil, err
	}
	flags := os.O_WRONLY
	if req.Offset < 0 {
		flags |= os.O_APPEND
	}
	fi, err := os.Stat(req.Path)
	if err == nil && !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("write %q: not a regular file: %w", req.Path, syscall.EISDIR)
	}
	made := errors.Is(err, os.ErrNotExist)
	if made {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(req.Path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	if made {
		mode := os.FileMode(req.Mode) & os.ModePerm
		if mode == 0 {
			mode = 0o644
		}
		if err := errors.Join(f.Chmod(mode), f.Chown(int(who.uid), int(who.gid))); err != nil {
			return nil, err
		}
	}
	if req.Offset > 0 {
		_, err = f.Seek(req.Offset, io.SeekStart)
	}
	return f, err
}
