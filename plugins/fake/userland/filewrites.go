package userland

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path"
	"strconv"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// take says where content was sent.
func (c *fileCall) take(spool string, pieces int) {
	c.spool, c.pieces = spool, pieces
	c.sent = bufio.NewReader(&spooled{p: c.p, name: spool, pieces: pieces})
}

// spooled reads the pieces one after the other, and removes each that it has read.
type spooled struct {
	p          system.Process
	name       string
	pieces, at int
	open       *system.Descriptor
}

func (s *spooled) Read(b []byte) (int, error) {
	for s.at < s.pieces {
		name := s.name + "." + strconv.Itoa(s.at)
		if s.open == nil {
			fd, err := s.p.Open(name, os.O_RDONLY, 0)
			if err != nil {
				return 0, about(name, err)
			}
			s.open = &system.Descriptor{P: s.p, FD: fd}
		}
		n, err := s.open.Read(b)
		if n > 0 {
			return n, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, about(name, err)
		}
		_ = s.open.Close()   // it was only read
		_ = s.p.Unlink(name) // tidied again at the end
		s.open, s.at = nil, s.at+1
	}
	return 0, io.EOF
}

func (c *fileCall) write(how string, mode uint32, parents bool, offset int64, name string) (string, error) {
	if parents {
		if err := makeAll(c.p, path.Dir(path.Clean(name))); err != nil {
			return "", about(name, err)
		}
	}
	to, err := c.through(name)
	if err != nil {
		return "", about(name, err)
	}
	was, err := c.p.Stat(to, true)
	there := err == nil
	switch {
	case err != nil && !errors.Is(err, syscall.ENOENT):
		return "", about(name, err)
	case there && was.Kind != system.Regular:
		return "", about(name, notPlain(was))
	case there && how == "new":
		return "", about(name, syscall.EEXIST)
	case how == "append" || how == "at":
		return c.change(how == "append", mode, there, offset, name, to)
	}
	fresh := path.Join(path.Dir(to), ".sandbar-"+strconv.Itoa(c.p.PID())+"-"+strconv.FormatInt(c.p.Now().UnixNano(), 10))
	out, err := c.p.Open(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", about(name, err)
	}
	c.unfinished = fresh
	if _, err := io.Copy(system.Descriptor{P: c.p, FD: out}, c.sent); err != nil {
		return "", about(name, err)
	}
	if there {
		mode = was.Mode
		_ = c.p.Chown(fresh, was.UID, was.GID) // where it may be
	}
	if err = c.p.Chmod(fresh, mode); err == nil && how == "new" {
		err = c.p.Link(fresh, to)
	} else if err == nil {
		err = c.p.Rename(fresh, to)
	}
	if err != nil {
		return "", about(name, err)
	}
	return c.stat(true, to)
}

// change writes into a file, or makes it.
func (c *fileCall) change(end bool, mode uint32, there bool, offset int64, name, to string) (string, error) {
	flags := os.O_WRONLY | os.O_CREATE
	if end {
		flags |= os.O_APPEND
	}
	out, err := c.p.Open(to, flags, mode)
	if err == nil && !there {
		err = c.p.Chmod(to, mode)
	}
	if err == nil && !end {
		_, err = c.p.Seek(out, offset, io.SeekStart)
	}
	if err == nil {
		_, err = io.Copy(system.Descriptor{P: c.p, FD: out}, c.sent)
	}
	if err != nil {
		return "", about(name, err)
	}
	return c.stat(true, to)
}

// through is the name that a file has behind symbolic links, which may not exist.
func (c *fileCall) through(name string) (string, error) {
	const most = 40
	for hops := 0; ; hops++ {
		target, err := c.p.Readlink(name)
		if err != nil {
			return name, nil //nolint:nilerr // it is no link
		}
		if hops == most {
			return "", syscall.ELOOP
		}
		if !path.IsAbs(target) {
			target = path.Dir(name) + "/" + target // not cleaned: dots go through links
		}
		name = target
	}
}
