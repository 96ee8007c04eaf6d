package runsc

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// FileInfo describes a file of the guest.
type FileInfo = wire.FileInfo

// Stat describes path, not what a final symbolic link points to.
func (s *Sandbox) Stat(ctx context.Context, path string) (*FileInfo, error) {
	ev, err := s.ctl.call(ctx, &wire.Request{Op: wire.OpStat, Path: path}, nil)
	if err != nil {
		return nil, err
	}
	if ev.Info == nil {
		return nil, fmt.Errorf("stat %q: empty answer", path)
	}
	return ev.Info, nil
}

// Mkdir makes a directory, with all missing parents if asked. Mode zero is 0755.
func (s *Sandbox) Mkdir(ctx context.Context, path string, opts FileOptions) error {
	_, err := s.ctl.call(ctx, &wire.Request{
		Op: wire.OpMkdir, Path: path, Mode: opts.Mode, User: opts.User, Recursive: opts.Recursive,
	}, nil)
	return err
}

// FileOptions say how files are made. The zero value is a file of root with the usual mode.
type FileOptions struct {
	Mode      uint32 // permission bits
	User      string // owner, as in Command.User
	Recursive bool
}

// Remove removes a file or an empty directory, or with recursive whatever is there.
func (s *Sandbox) Remove(ctx context.Context, path string, recursive bool) error {
	_, err := s.ctl.call(ctx, &wire.Request{Op: wire.OpRemove, Path: path, Recursive: recursive}, nil)
	return err
}

// Rename moves a file within a file system of the guest, replacing what is there.
func (s *Sandbox) Rename(ctx context.Context, from, to string) error {
	_, err := s.ctl.call(ctx, &wire.Request{Op: wire.OpRename, Path: from, Target: to}, nil)
	return err
}

// List calls each for every entry of a directory, in name order, until it fails.
func (s *Sandbox) List(ctx context.Context, path string, each func(FileInfo) error) error {
	r, err := s.download(ctx, &wire.Request{Op: wire.OpList, Path: path})
	if err != nil {
		return err
	}
	defer r.Close()
	dec := json.NewDecoder(bufio.NewReader(r))
	for {
		var fi FileInfo
		switch err := dec.Decode(&fi); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("list %q: %w", path, err)
		}
		if err := each(fi); err != nil {
			return err
		}
	}
}

// ReadFile streams length bytes from offset, or with length 0 to the end. The reader reports what went wrong in the guest
// instead of io.EOF. The caller closes it.
func (s *Sandbox) ReadFile(ctx context.Context, path string, offset, length int64) (io.ReadCloser, error) {
	return s.download(ctx, &wire.Request{Op: wire.OpRead, Path: path, Offset: offset, Length: length})
}

// WriteFile replaces path by the bytes of src, in one step: on any failure the old content stays. Mode zero keeps the mode of an
// existing file and is 0644 for a new one.
func (s *Sandbox) WriteFile(ctx context.Context, path string, src io.Reader, opts FileOptions) error {
	return s.write(ctx, &wire.Request{Op: wire.OpWrite, Path: path, Mode: opts.Mode, User: opts.User}, src)
}

// PatchFile puts the bytes of src at offset of path, or at its end if offset is negative. What is there is kept, owner and mode included;
// on a failure some of the bytes may be there already. A file that is missing is made.
func (s *Sandbox) PatchFile(ctx context.Context, path string, src io.Reader, offset int64, opts FileOptions) error {
	return s.write(ctx, &wire.Request{Op: wire.OpPatch, Path: path, Offset: offset, Mode: opts.Mode, User: opts.User}, src)
}

func (s *Sandbox) write(ctx context.Context, req *wire.Request, src io.Reader) error {
	return s.upload(ctx, req, src, func(n int64) error {
		_, err := s.ctl.call(context.WithoutCancel(ctx), &wire.Request{Op: wire.OpCommit, Commit: req.ID, Length: n}, nil)
		return err
	})
}

// Tar streams a file or a directory's content as a tar archive. The caller closes the reader.
func (s *Sandbox) Tar(ctx context.Context, path string) (io.ReadCloser, error) {
	return s.download(ctx, &wire.Request{Op: wire.OpTar, Path: path})
}

// Untar unpacks a tar archive below the directory path. No entry can reach outside of it. User, if given, owns all entries.
func (s *Sandbox) Untar(ctx context.Context, path string, src io.Reader, opts FileOptions) error {
	return s.upload(ctx, &wire.Request{Op: wire.OpUntar, Path: path, User: opts.User}, src, nil)
}

// download opens a stream from the guest.
func (s *Sandbox) download(ctx context.Context, req *wire.Request) (*transfer, error) {
	r, keep, err := newReader(s.cfg.ioDir(), s.streamName("1"), 0)
	if err != nil {
		return nil, err
	}
	defer keep.Close()
	req.Stdout = r.name
	t := &transfer{Reader: r, ctx: ctx, done: make(chan error, 1), ended: s.ctl.ended}
	if _, err := s.ctl.call(ctx, req, t.done); err != nil {
		_ = r.Close()
		return nil, err
	}
	t.stop = context.AfterFunc(ctx, func() { _ = r.f.SetReadDeadline(time.Unix(1, 0)) })
	return t, nil
}

// transfer is a Reader whose end is only believed when the guest confirms it.
type transfer struct {
	*Reader
	ctx   context.Context //nolint:containedctx // bounds one stream, whose reader has no ctx parameter
	done  chan error
	ended chan struct{}
	stop  func() bool
}

func (t *transfer) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		select {
		case err := <-t.done:
			t.done <- err
			if err != nil {
				return n, err
			}
			return n, io.EOF
		case <-t.ended:
			return n, ErrEnded
		case <-t.ctx.Done():
			return n, t.ctx.Err()
		}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, t.ctx.Err()
	}
	return n, err
}

func (t *transfer) Close() error {
	t.stop()
	return t.Reader.Close()
}

// upload sends src to the guest. commit is told the length once all of it is sent, or -1.
func (s *Sandbox) upload(ctx context.Context, req *wire.Request, src io.Reader, commit func(int64) error) error {
	w, keep, err := newWriter(s.cfg.ioDir(), s.streamName("0"))
	if err != nil {
		return err
	}
	defer w.remove()
	defer w.Close()
	req.Stdin = w.name
	done := make(chan error, 1)
	_, err = s.ctl.call(ctx, req, done)
	_ = keep.Close()
	if err != nil {
		return err
	}
	giveUp := func() { _ = w.f.SetWriteDeadline(time.Unix(1, 0)) }
	stop := context.AfterFunc(ctx, giveUp)
	defer stop()
	// The guest may give up in the middle, for want of room. Its kernel closes the pipe when it pleases, so that EPIPE alone
	// does not tell.
	outcome := make(chan error, 1)
	go func() {
		select {
		case err := <-done:
			outcome <- err
			giveUp()
		case <-s.ctl.ended:
			giveUp()
		}
	}()
	n, copyErr := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{src}, make([]byte, pipeBytes))
	_ = w.Close()
	if copyErr != nil {
		n = -1
	}
	if gaveUp(copyErr) && ctx.Err() == nil {
		copyErr = nil // it is the guest that says why
	}
	if commit != nil {
		if err := commit(n); err != nil {
			return errors.Join(copyErr, err)
		}
	}
	select {
	case err := <-outcome:
		if copyErr != nil {
			return fmt.Errorf("send stream: %w", copyErr)
		}
		return err
	case <-s.ctl.ended:
		return ErrEnded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gaveUp is true of errors of a stream whose other end wants no more.
func gaveUp(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrDeadlineExceeded)
}

func (s *Sandbox) streamName(suffix string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextStream++
	return "f-" + strconv.FormatInt(s.nextStream, 10) + "." + suffix
}

// Dial connects inside the guest, for example to ("tcp", "127.0.0.1:8080"). CloseWrite is supported. The connection does not
// survive a checkpoint of the guest: its other end sees it closed after the restore.
func (s *Sandbox) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	dir := s.cfg.ioDir()
	r, keepR, err := newReader(dir, s.streamName("1"), 0)
	if err != nil {
		return nil, err
	}
	defer keepR.Close()
	w, keepW, err := newWriter(dir, s.streamName("0"))
	if err != nil {
		_ = r.Close()
		return nil, err
	}
	defer keepW.Close()
	_, err = s.ctl.call(ctx, &wire.Request{
		Op: wire.OpDial, Network: network, Address: address, Stdin: w.name, Stdout: r.name,
	}, make(chan error, 1))
	if err != nil {
		_ = r.Close()
		_ = w.Close()
		w.remove()
		return nil, fmt.Errorf("dial guest %q: %w", address, err)
	}
	return &guestConn{Reader: r, w: w, addr: guestAddr{network, address}}, nil
}

// guestConn is a connection into the guest over two streams.
type guestConn struct {
	*Reader
	w    *Writer
	addr guestAddr
}

type guestAddr struct{ network, address string }

func (a guestAddr) Network() string { return a.network }
func (a guestAddr) String() string  { return a.address }

func (c *guestConn) Write(p []byte) (int, error) { return c.w.Write(p) }

// CloseWrite ends the stream to the guest; what it sends can still be read.
func (c *guestConn) CloseWrite() error { return c.w.Close() }

func (c *guestConn) Close() error {
	_ = c.w.Close()
	c.w.remove()
	return c.Reader.Close()
}

func (c *guestConn) LocalAddr() net.Addr  { return guestAddr{c.addr.network, "sandbar"} }
func (c *guestConn) RemoteAddr() net.Addr { return c.addr }

func (c *guestConn) SetDeadline(t time.Time) error {
	return errors.Join(c.f.SetReadDeadline(t), c.w.f.SetWriteDeadline(t))
}
func (c *guestConn) SetReadDeadline(t time.Time) error  { return c.f.SetReadDeadline(t) }
func (c *guestConn) SetWriteDeadline(t time.Time) error { return c.w.f.SetWriteDeadline(t) }
