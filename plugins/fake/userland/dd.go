package userland

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// copying is one dd.
type copying struct {
	p                                       system.Process
	in, out                                 int
	block, count, skip, seek                int64
	full, countBytes, skipBytes, seekBytes  bool
	notrunc, appended, quiet, noRate, sized bool
	whole, part                             int64
	bytes                                   int64
}

func dd(p system.Process, argv []string) int {
	c := &copying{p: p, out: 1, block: 512, count: -1}
	files := map[string]string{}
	for _, arg := range argv[1:] {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return complain(p, 2, "dd: unsupported operand %s", arg)
		}
		if name == "if" || name == "of" {
			files[name] = value
			continue
		}
		if err := c.operand(name, value); err != nil {
			return complain(p, 2, "dd: %v", err)
		}
	}
	if c.block < 1 {
		return complain(p, 2, "dd: bs=%d: want at least 1", c.block)
	}
	if name, ok := files["if"]; ok {
		fd, err := p.Open(name, os.O_RDONLY, 0)
		if err != nil {
			return complain(p, 1, "dd: failed to open %s: %s", name, Message(err))
		}
		c.in = fd
	}
	if name, ok := files["of"]; ok {
		if code := c.openOutput(name); code != 0 {
			return code
		}
	}
	p.Alloc(c.block)
	return c.run()
}

func (c *copying) operand(name, value string) error {
	numbers := map[string]*int64{"bs": &c.block, "ibs": &c.block, "count": &c.count, "skip": &c.skip, "seek": &c.seek}
	if to := numbers[name]; to != nil {
		n, err := size(value)
		*to = n
		if err != nil {
			return fmt.Errorf("%s=%w", name, err)
		}
		return nil
	}
	words := map[string]map[string]*bool{
		"conv":   {"notrunc": &c.notrunc, "fsync": &c.sized, "fdatasync": &c.sized},
		"iflag":  {"fullblock": &c.full, "count_bytes": &c.countBytes, "skip_bytes": &c.skipBytes},
		"oflag":  {"append": &c.appended, "seek_bytes": &c.seekBytes},
		"status": {"none": &c.quiet, "noxfer": &c.noRate, "progress": &c.sized},
	}[name]
	if words == nil {
		return fmt.Errorf("unsupported operand %s=", name)
	}
	for word := range strings.SplitSeq(value, ",") {
		to := words[word]
		if to == nil {
			return fmt.Errorf("unsupported %s=%s", name, word)
		}
		*to = true
	}
	return nil
}

func (c *copying) openOutput(name string) int {
	flags := os.O_WRONLY | os.O_CREATE
	if c.appended {
		flags |= os.O_APPEND
	}
	if !c.notrunc && c.seek == 0 {
		flags |= os.O_TRUNC
	}
	fd, err := c.p.Open(name, flags, 0o666)
	if err != nil {
		return complain(c.p, 1, "dd: failed to open %s: %s", name, Message(err))
	}
	c.out = fd
	if c.seek == 0 {
		return 0
	}
	at := c.seek * c.block
	if c.seekBytes {
		at = c.seek
	}
	if _, err := c.p.Seek(fd, at, io.SeekStart); err != nil {
		return complain(c.p, 1, "dd: cannot seek in %s: %s", name, Message(err))
	}
	if info, err := c.p.Fstat(fd); !c.notrunc && err == nil && info.Kind == system.Regular {
		if err := c.p.Truncate(fd, at); err != nil {
			return complain(c.p, 1, "dd: cannot truncate %s: %s", name, Message(err))
		}
	}
	return 0
}

func (c *copying) run() int {
	left := int64(-1)
	if c.count >= 0 {
		left = c.count * c.block
		if c.countBytes {
			left = c.count
		}
	}
	if err := c.skipInput(); err != nil {
		return complain(c.p, 1, "dd: cannot skip: %s", Message(err))
	}
	// A pipe hands over what it has: one read is one block, if a short one.
	info, err := c.p.Fstat(c.in)
	whole := c.full || (err == nil && info.Kind != system.Pipe && info.Kind != system.Socket && c.p.Terminal(c.in) == nil)
	for blocks := int64(0); left != 0 && (c.count < 0 || c.countBytes || blocks < c.count); blocks++ {
		want := c.block
		if left > 0 {
			want = min(want, left)
		}
		n, err := c.one(want, whole)
		switch n {
		case 0:
		case c.block:
			c.whole++
		default:
			c.part++
		}
		if left > 0 {
			left -= n
		}
		if err == io.EOF { //nolint:errorlint // the calls of package system return it bare
			break
		}
		if err != nil {
			c.report()
			return complain(c.p, 1, "dd: %s", Message(err))
		}
	}
	c.report()
	return 0
}

func (c *copying) skipInput() error {
	n := c.skip * c.block
	if c.skipBytes {
		n = c.skip
	}
	if n == 0 {
		return nil
	}
	if _, err := c.p.Seek(c.in, n, io.SeekCurrent); err == nil {
		return nil
	}
	if _, err := io.CopyN(io.Discard, system.Descriptor{P: c.p, FD: c.in}, n); err != nil && err != io.EOF { //nolint:errorlint // it is returned bare
		return err
	}
	return nil
}

// one copies one block through a buffer that need not be as large.
func (c *copying) one(want int64, whole bool) (int64, error) {
	buf := make([]byte, min(want, 1<<20))
	var copied int64
	for copied < want {
		n, err := system.Descriptor{P: c.p, FD: c.in}.Read(buf[:min(int64(len(buf)), want-copied)])
		if n > 0 {
			written, werr := system.Descriptor{P: c.p, FD: c.out}.Write(buf[:n])
			c.bytes += int64(written)
			copied += int64(written)
			if werr != nil {
				return copied, werr
			}
		}
		if err != nil {
			return copied, err
		}
		if !whole {
			break
		}
	}
	return copied, nil
}

func (c *copying) report() {
	if c.quiet {
		return
	}
	text := fmt.Sprintf("%d+%d records in\n%d+%d records out", c.whole, c.part, c.whole, c.part)
	if !c.noRate {
		text += fmt.Sprintf("\n%d bytes copied", c.bytes)
	}
	complain(c.p, 0, "%s", text)
}
