package userland

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// pack writes a tree as a stream of lines, each followed by content.
func (c *fileCall) pack(to string, pairs []string) error {
	fd, err := c.p.Open(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return about(to, err)
	}
	c.unfinished = to
	out := bufio.NewWriter(system.Descriptor{P: c.p, FD: fd})
	first := map[any]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if err := c.packOne(out, pairs[i+1], pairs[i], first); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return about(to, err)
	}
	c.unfinished = ""
	return nil
}

func (c *fileCall) packOne(out *bufio.Writer, name, as string, first map[any]string) error {
	info, err := c.p.Stat(name, false)
	if err != nil {
		return about(name, err)
	}
	kind, size := kindOf(info), int64(0)
	target := info.Target
	switch was, again := first[info.ID]; {
	case kind == "o":
		return nil
	case kind == "r" && again:
		kind, target = "h", was
	case kind == "r":
		first[info.ID], size = as, info.Size
	}
	if _, err := out.WriteString(fileLine(kind, as, info, size, target)); err != nil {
		return about(name, err)
	}
	switch kind {
	case "r":
		fd, err := c.p.Open(name, os.O_RDONLY, 0)
		if err != nil {
			return about(name, err)
		}
		in := system.Descriptor{P: c.p, FD: fd}
		if _, err := io.CopyN(out, in, size); errors.Is(err, io.EOF) {
			return about(name, syscall.EBUSY)
		} else if err != nil {
			return about(name, err)
		}
		return about(name, in.Close())
	case "d":
		kids, err := c.p.ReadDir(name)
		if err != nil {
			return about(name, err)
		}
		for _, kid := range kids {
			if err := c.packOne(out, path.Join(name, kid.Name), as+"/"+kid.Name, first); err != nil {
				return err
			}
		}
	}
	return nil
}

// packed is one line of a packed tree.
type packed struct {
	kind         string
	mode         uint32
	uid, gid     uint32
	size         int64
	modified     time.Time
	name, target string
}

func readPacked(line string) packed {
	f := append(strings.Split(strings.TrimSuffix(line, "\n"), " "), make([]string, 9)...)
	return packed{
		f[1], octal(f[2]), uint32(whole(f[3])), uint32(whole(f[4])), int64(whole(f[5])), time.Unix(int64(whole(f[6])), 0), percentDecode(f[7]), percentDecode(f[8]),
	}
}

func (c *fileCall) unpack(owners bool, dir string) error {
	if err := makeAll(c.p, path.Clean(dir)); err != nil {
		return about(dir, err)
	}
	if err := c.p.Chdir(dir); err != nil {
		return about(dir, err)
	}
	var folders []packed
	for {
		line, err := c.sent.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		e := readPacked(line)
		if err := c.unpackOne(e, owners); err != nil {
			return about(e.name, err)
		}
		if e.kind == "d" {
			folders = append(folders, e)
		}
	}
	for _, e := range slices.Backward(folders) { // what is in them is there by now
		if err := c.p.Chmod(e.name, e.mode); err != nil {
			return about(e.name, err)
		}
		if err := c.p.Chtimes(e.name, e.modified); err != nil {
			return about(e.name, err)
		}
	}
	return nil
}

// wayTo makes the folders above a name. It leads through no link.
func (c *fileCall) wayTo(name string) error {
	for i, b := range []byte(name) {
		if b != '/' {
			continue
		}
		switch info, err := c.p.Stat(name[:i], false); {
		case err != nil:
			if err := c.p.Mkdir(name[:i], 0o755); err != nil {
				return err
			}
		case info.Kind == system.Symlink:
			return syscall.EPERM
		case info.Kind != system.Directory:
			return syscall.ENOTDIR
		}
	}
	return nil
}

func (c *fileCall) unpackOne(e packed, owners bool) error {
	if err := c.wayTo(e.name); err != nil {
		return err
	}
	there, err := c.p.Stat(e.name, false)
	exists := err == nil
	if exists && there.Kind == system.Directory {
		if e.kind != "d" {
			return syscall.EISDIR
		}
	} else if exists {
		if err := c.p.Unlink(e.name); err != nil {
			return err
		}
	}
	switch {
	case e.kind == "h":
		if err := c.wayTo(e.target); err != nil {
			return err
		}
		return c.p.Link(e.target, e.name)
	case e.kind == "l":
		err = c.p.Symlink(e.target, e.name)
	case e.kind == "d" && exists && there.Kind == system.Directory:
		err = nil
	case e.kind == "d":
		err = c.p.Mkdir(e.name, 0o755)
	default:
		err = c.unpackFile(e)
	}
	if err == nil && owners {
		err = c.p.Chown(e.name, e.uid, e.gid)
	}
	if err == nil && e.kind == "r" {
		if err = c.p.Chmod(e.name, e.mode); err == nil {
			err = c.p.Chtimes(e.name, e.modified)
		}
	}
	return err
}

func (c *fileCall) unpackFile(e packed) error {
	fd, err := c.p.Open(e.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.CopyN(system.Descriptor{P: c.p, FD: fd}, c.sent, e.size); err != nil {
		return err
	}
	return c.p.Close(fd)
}
