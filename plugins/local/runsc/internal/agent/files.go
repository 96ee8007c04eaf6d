package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// copyBuffer is larger than io.Copy's: one system call of the guest costs some microseconds.
const copyBuffer = 256 << 10

// serveFile performs one file or network request. Requests with a stream are answered once the stream is open and what can be
// checked beforehand was checked; a Done event follows when the last byte is through.
func (a *agent) serveFile(req *wire.Request) {
	switch req.Op {
	case wire.OpStat:
		info, err := stat(req.Path)
		a.send(wire.Event{ID: req.ID, Info: info, Error: wireError(err)})
	case wire.OpMkdir:
		a.answer(req, mkdir(req))
	case wire.OpRemove:
		a.answer(req, remove(req))
	case wire.OpRename:
		a.answer(req, os.Rename(req.Path, req.Target))
	case wire.OpList:
		a.stream(req, func() (func() error, error) { return list(req) })
	case wire.OpRead:
		a.stream(req, func() (func() error, error) { return read(req) })
	case wire.OpWrite:
		defer a.forgetCommit(req.ID)
		a.stream(req, func() (func() error, error) { return a.write(req) })
	case wire.OpPatch:
		defer a.forgetCommit(req.ID)
		a.stream(req, func() (func() error, error) { return a.patch(req) })
	case wire.OpTar:
		a.stream(req, func() (func() error, error) { return pack(req) })
	case wire.OpUntar:
		a.stream(req, func() (func() error, error) { return unpack(req) })
	case wire.OpUpper:
		a.stream(req, func() (func() error, error) { return a.upper(req) })
	case wire.OpDial:
		a.stream(req, func() (func() error, error) { return dial(req) })
	default:
		a.answer(req, fmt.Errorf("unknown operation %q: %w", req.Op, syscall.ENOSYS))
	}
}

func (a *agent) stream(req *wire.Request, open func() (run func() error, err error)) {
	run, err := open()
	a.answer(req, err)
	if err == nil {
		err = run()
		a.send(wire.Event{Done: req.ID, Error: wireError(err)})
	}
}

func stat(path string) (*wire.FileInfo, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	return fileInfo(path, fi), nil
}

func fileInfo(path string, fi os.FileInfo) *wire.FileInfo {
	info := &wire.FileInfo{Name: fi.Name(), Size: fi.Size(), ModTime: fi.ModTime().UnixNano()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		info.Mode, info.UID, info.GID = st.Mode, st.Uid, st.Gid
	}
	if fi.Mode()&os.ModeSymlink != 0 {
		info.Target, _ = os.Readlink(path)
	}
	return info
}

func mkdir(req *wire.Request) error {
	mode := os.FileMode(req.Mode) & os.ModePerm
	if mode == 0 {
		mode = 0o755
	}
	who, err := lookupUser(req.User)
	if err != nil {
		return err
	}
	if !req.Recursive {
		if err := os.Mkdir(req.Path, mode); err != nil {
			return err
		}
		return chown(req.Path, who)
	}
	// Directories that exist keep their owner.
	var missing []string
	for p := filepath.Clean(req.Path); ; p = filepath.Dir(p) {
		if _, err := os.Stat(p); err == nil || p == "/" || p == "." {
			break
		}
		missing = append(missing, p)
	}
	if err := os.MkdirAll(req.Path, mode); err != nil {
		return err
	}
	for _, p := range missing {
		if err := chown(p, who); err != nil {
			return err
		}
	}
	return nil
}

func chown(path string, who user) error {
	if who.uid == 0 && who.gid == 0 {
		return nil
	}
	return os.Lchown(path, int(who.uid), int(who.gid))
}

func remove(req *wire.Request) error {
	if _, err := os.Lstat(req.Path); err != nil {
		return err
	}
	if req.Recursive {
		return os.RemoveAll(req.Path)
	}
	return os.Remove(req.Path)
}

func list(req *wire.Request) (func() error, error) {
	dir, err := os.ReadDir(req.Path)
	if err != nil {
		return nil, err
	}
	out, err := openStream(req.Stdout, syscall.O_WRONLY)
	if err != nil {
		return nil, err
	}
	return func() error {
		defer out.Close()
		w := bufio.NewWriterSize(out, 64<<10)
		enc := json.NewEncoder(w)
		for _, e := range dir {
			fi, err := e.Info()
			if errors.Is(err, os.ErrNotExist) {
				continue // gone since
			}
			if err != nil {
				return err
			}
			if err := enc.Encode(fileInfo(filepath.Join(req.Path, e.Name()), fi)); err != nil {
				return err
			}
		}
		return w.Flush()
	}, nil
}

func read(req *wire.Request) (func() error, error) {
	// Non-blocking, so that a FIFO without a writer cannot hold the request for ever; regular files ignore it.
	f, err := os.OpenFile(req.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && fi.IsDir() {
		err = fmt.Errorf("read %q: %w", req.Path, syscall.EISDIR)
	}
	var out rawFile
	if err == nil {
		out, err = openStream(req.Stdout, syscall.O_WRONLY)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() error {
		defer f.Close()
		defer out.Close()
		if req.Offset > 0 {
			if _, err := f.Seek(req.Offset, io.SeekStart); err != nil {
				return err
			}
		}
		var src io.Reader = f
		if req.Length > 0 {
			src = io.LimitReader(f, req.Length)
		}
		_, err := io.CopyBuffer(out, struct{ io.Reader }{src}, make([]byte, copyBuffer))
		return err
	}, nil
}

// expectCommit is called before the write's goroutine starts, so that a commit can never come too early.
func (a *agent) expectCommit(id uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.commits[id] = make(chan int64, 1)
}

// forgetCommit is called when the write has ended, however it did.
func (a *agent) forgetCommit(id uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.commits, id)
}

func (a *agent) commit(id uint64, length int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ch, ok := a.commits[id]; ok {
		ch <- length // there is room, and nobody commits twice
	}
	return nil
}

// write replaces a file in one step: readers see the old or the whole new content, and the end of the stream alone, which a
// shim that died causes too, commits nothing.
func (a *agent) write(req *wire.Request) (func() error, error) {
	a.mu.Lock()
	committed := a.commits[req.ID]
	a.mu.Unlock()
	who, err := lookupUser(req.User)
	if err != nil {
		return nil, err
	}
	target, mode := req.Path, os.FileMode(req.Mode)&os.ModePerm
	if real, err := filepath.EvalSymlinks(target); err == nil {
		target = real // as open(2) with O_TRUNC would
	}
	if fi, err := os.Stat(target); err == nil {
		if !fi.Mode().IsRegular() {
			return nil, fmt.Errorf("write %q: not a regular file: %w", req.Path, syscall.EISDIR)
		}
		if mode == 0 {
			mode = fi.Mode().Perm()
		}
	}
	if mode == 0 {
		mode = 0o644
	}
	tmp, err := os.CreateTemp(filepath.Dir(target), ".sandbar-write-")
	if err != nil {
		return nil, err
	}
	in, err := openStream(req.Stdin, syscall.O_RDONLY)
	if err != nil {
		_ = tmp.Close()
		_ = os.Remove(tmp.Name())
		return nil, err
	}
	return func() (err error) {
		defer func() {
			_ = tmp.Close()
			if err != nil {
				_ = os.Remove(tmp.Name())
			}
		}()
		n, err := io.CopyBuffer(struct{ io.Writer }{tmp}, in, make([]byte, copyBuffer))
		_ = in.Close()
		if err != nil {
			return err // the host waits to hear it before it commits
		}
		if want := <-committed; n != want {
			return fmt.Errorf("write %q: stream ended after %d bytes: %w", req.Path, n, syscall.ECANCELED)
		}
		if err := tmp.Chmod(mode); err != nil {
			return err
		}
		if err := chown(tmp.Name(), who); err != nil {
			return err
		}
		return os.Rename(tmp.Name(), target)
	}, nil
}

// dial connects inside the guest and copies both directions. Each ends by itself: end of stdin closes the connection's write
// side, its end closes stdout.
func dial(req *wire.Request) (func() error, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(context.Background(), req.Network, req.Address) // the guest kernel bounds it
	if err != nil {
		return nil, err
	}
	in, err := openStream(req.Stdin, syscall.O_RDONLY)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	out, err := openStream(req.Stdout, syscall.O_WRONLY)
	if err != nil {
		_ = conn.Close()
		_ = in.Close()
		return nil, err
	}
	return func() error {
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = io.CopyBuffer(struct{ io.Writer }{conn}, in, make([]byte, copyBuffer))
			_ = in.Close()
			if c, ok := conn.(interface{ CloseWrite() error }); ok {
				_ = c.CloseWrite()
			}
		})
		_, err := io.CopyBuffer(out, struct{ io.Reader }{conn}, make([]byte, copyBuffer))
		_ = out.Close()
		if err != nil { // the reader is gone: so must the connection be
			_ = conn.Close()
		}
		wg.Wait()
		return conn.Close()
	}, nil
}
