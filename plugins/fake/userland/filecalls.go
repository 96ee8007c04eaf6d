package userland

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// fileCall does one thing to files, as plugins/internal/files/files.pl does; what it is asked
// and what it says is in plugins/internal/files/filecalls.go.
type fileCall struct {
	p system.Process
	// spool and pieces are the files in which content was sent; sent reads them.
	spool  string
	pieces int
	sent   *bufio.Reader
	// unfinished is removed at the end.
	unfinished string
}

// refusal is an error of the file system about a path.
type refusal struct {
	path string
	err  error
}

func (r *refusal) Error() string { return r.path + ": " + r.err.Error() }

func about(name string, err error) error {
	if err == nil {
		return nil
	}
	return &refusal{name, err}
}

// files is sandbar-probe files.
func files(p system.Process, args []string) int {
	c := &fileCall{p: p}
	p.Umask(0o022)
	said, err := c.do(args[0], args[1:])
	if c.unfinished != "" {
		_ = p.Unlink(c.unfinished) // it may not have been made
	}
	for i := range c.pieces {
		_ = p.Unlink(c.spool + "." + strconv.Itoa(i)) // most are used up
	}
	if err == nil {
		return print(p, "sandbar-probe", said+"done\n")
	}
	r := &refusal{path: args[0], err: err}
	errors.As(err, &r)
	errno := syscall.EIO
	errors.As(r.err, &errno)
	return print(p, "sandbar-probe", fmt.Sprintf("errno %d %s\n", int(errno), percentEncode(r.path)))
}

func (c *fileCall) do(what string, args []string) (string, error) {
	const most = 7
	args = append(args, make([]string, most)...) // what is missing is empty
	n := len(args) - most
	switch what {
	case "stat":
		return c.stat(args[0] == "1", args[1])
	case "list":
		return c.list(args[0] == "1", whole(args[1]), percentDecode(args[2]), args[3])
	case "read":
		return c.read(int64(whole(args[0])), int64(whole(args[1])), args[2], args[3])
	case "write":
		c.take(args[4], whole(args[5]))
		return c.write(args[0], octal(args[1]), args[2] == "1", int64(whole(args[3])), args[6])
	case "mkdir":
		return "", c.mkdir(octal(args[0]), args[1] == "1", args[2])
	case "remove":
		return c.remove(args[0] == "1", args[1])
	case "move":
		return "", c.move(args[0] == "1", args[1], args[2])
	case "pack":
		return "", c.pack(args[0], args[1:n])
	case "unpack":
		c.take(args[2], whole(args[3]))
		return "", c.unpack(args[0] == "1", args[1])
	case "drop":
		for _, name := range args[:n] {
			_ = c.p.Unlink(name) // it need not be there
		}
		return "", nil
	}
	return "", syscall.ENOSYS
}

// whole and octal read what the plugin wrote; anything else is 0.
func whole(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

func octal(text string) uint32 {
	n, _ := strconv.ParseUint(text, 8, 32)
	return uint32(n)
}

func percentEncode(text string) string {
	var out strings.Builder
	for i := range len(text) {
		if b := text[i]; b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("_./-", b) >= 0 {
			out.WriteByte(b)
		} else {
			fmt.Fprintf(&out, "%%%02X", b)
		}
	}
	return out.String()
}

func percentDecode(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+2 < len(text) {
			if b, err := strconv.ParseUint(text[i+1:i+3], 16, 8); err == nil {
				out.WriteByte(byte(b))
				i += 2
				continue
			}
		}
		out.WriteByte(text[i])
	}
	return out.String()
}

func kindOf(info system.Info) string {
	switch info.Kind {
	case system.Regular:
		return "r"
	case system.Directory:
		return "d"
	case system.Symlink:
		return "l"
	}
	return "o"
}

func fileLine(kind, name string, info system.Info, size int64, target string) string {
	out := fmt.Sprintf("file %s %o %d %d %d %d %s", kind, info.Mode, info.UID, info.GID, size, info.Modified.Unix(), percentEncode(name))
	if target != "" {
		out += " " + percentEncode(target)
	}
	return out + "\n"
}

func (c *fileCall) stat(follow bool, name string) (string, error) {
	info, err := c.p.Stat(name, follow)
	return fileLine(kindOf(info), name, info, info.Size, info.Target), about(name, err)
}

func (c *fileCall) list(deep bool, limit int, after, name string) (string, error) {
	found := map[string]system.Info{}
	var names []string
	for todo := []string{""}; len(todo) > 0; todo = todo[1:] {
		kids, err := c.p.ReadDir(path.Join(name, todo[0]))
		if err != nil {
			return "", about(path.Join(name, todo[0]), err)
		}
		for _, kid := range kids {
			below := path.Join(todo[0], kid.Name)
			if below > after {
				found[below], names = kid, append(names, below)
			}
			if deep && kid.Kind == system.Directory {
				todo = append(todo, below)
			}
		}
	}
	slices.Sort(names)
	var out strings.Builder
	for i, below := range names {
		if i == limit {
			out.WriteString("more\n")
			break
		}
		info := found[below]
		out.WriteString(fileLine(kindOf(info), below, info, info.Size, info.Target))
	}
	return out.String(), nil
}

func (c *fileCall) read(offset, length int64, to, name string) (string, error) {
	info, err := c.p.Stat(name, true)
	if err == nil && info.Kind != system.Regular {
		err = notPlain(info)
	}
	if err != nil {
		return "", about(name, err)
	}
	in, err := c.p.Open(name, os.O_RDONLY, 0)
	if err != nil {
		return "", about(name, err)
	}
	said := fileLine("r", name, info, info.Size, "")
	if to == "" {
		return said, nil
	}
	if _, err := c.p.Seek(in, offset, io.SeekStart); err != nil {
		return "", about(name, err)
	}
	out, err := c.p.Open(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", about(to, err)
	}
	var from io.Reader = system.Descriptor{P: c.p, FD: in}
	if length > 0 {
		from = io.LimitReader(from, length)
	}
	if _, err := io.Copy(system.Descriptor{P: c.p, FD: out}, from); err != nil {
		c.unfinished = to
		return "", about(to, err)
	}
	return said, nil
}

func notPlain(info system.Info) error {
	if info.Kind == system.Directory {
		return syscall.EISDIR
	}
	return syscall.EINVAL
}

func (c *fileCall) mkdir(mode uint32, parents bool, name string) error {
	if parents {
		if err := makeAll(c.p, path.Dir(path.Clean(name))); err != nil {
			return about(name, err)
		}
	}
	err := c.p.Mkdir(name, 0o700)
	if err == nil {
		err = c.p.Chmod(name, mode)
	} else if info, found := c.p.Stat(name, true); parents && found == nil && info.Kind == system.Directory {
		err = nil
	}
	return about(name, err)
}

func (c *fileCall) remove(deep bool, name string) (string, error) {
	info, err := c.p.Stat(name, false)
	switch {
	case errors.Is(err, syscall.ENOENT):
		return "absent\n", nil
	case err == nil && info.Kind != system.Directory:
		err = c.p.Unlink(name)
	case err == nil && deep:
		err = c.removeAll(name)
	case err == nil:
		err = c.p.Rmdir(name)
	}
	return "", about(name, err)
}

func (c *fileCall) removeAll(name string) error {
	kids, err := c.p.ReadDir(name)
	if err != nil {
		return err
	}
	for _, kid := range kids {
		below := path.Join(name, kid.Name)
		if kid.Kind == system.Directory {
			err = c.removeAll(below)
		} else {
			err = c.p.Unlink(below)
		}
		if err != nil {
			return about(below, err)
		}
	}
	return c.p.Rmdir(name)
}

func (c *fileCall) move(over bool, from, to string) error {
	if _, err := c.p.Stat(from, false); err != nil {
		return about(from, err)
	}
	if _, err := c.p.Stat(to, false); err == nil && !over {
		return about(to, syscall.EEXIST)
	}
	return about(to, c.p.Rename(from, to))
}
