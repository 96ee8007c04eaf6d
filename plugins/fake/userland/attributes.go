package userland

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

func touch(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "cd:mr:", map[string]byte{"no-create": 'c', "date": 'd', "reference": 'r'})
	if !ok {
		return 2
	}
	at := p.Now()
	switch {
	case o.has('d'):
		var err error
		text := o.set['d']
		if seconds, found := strings.CutPrefix(text, "@"); found {
			var n int64
			n, err = strconv.ParseInt(seconds, 10, 64)
			at = time.Unix(n, 0)
		} else {
			at, err = time.Parse(time.RFC3339, text)
		}
		if err != nil {
			return complain(p, 2, "touch: -d %s: want @SECONDS or a time such as 2006-01-02T15:04:05Z", text)
		}
	case o.has('r'):
		info, err := p.Stat(o.set['r'], true)
		if err != nil {
			return trouble(p, "touch", o.set['r'], err)
		}
		at = info.Modified
	}
	code := 0
	for _, name := range o.args {
		if _, err := p.Stat(name, true); err == syscall.ENOENT { //nolint:errorlint // returned bare
			if o.has('c') {
				continue
			}
			fd, err := p.Open(name, os.O_WRONLY|os.O_CREATE, 0o666)
			if err != nil {
				code = complain(p, 1, "touch: cannot touch '%s': %s", name, Message(err))
				continue
			}
			_ = p.Close(fd) // nothing was written
		}
		if err := p.Chtimes(name, at); err != nil {
			code = complain(p, 1, "touch: cannot touch '%s': %s", name, Message(err))
		}
	}
	return code
}

func chmod(p system.Process, argv []string) int {
	// A mode may begin with a dash.
	var mode string
	args := []string{"chmod"}
	for _, arg := range argv[1:] {
		_, err := newMode(arg, 0, false)
		if mode == "" && err == nil {
			mode = arg
			continue
		}
		args = append(args, arg)
	}
	o, ok := parse(p, args, "R", map[string]byte{"recursive": 'R'})
	if !ok {
		return 2
	}
	if mode == "" || len(o.args) == 0 {
		return complain(p, 2, "chmod: want a mode and a file")
	}
	code := 0
	for _, name := range o.args {
		code = max(code, change(p, name, mode, o.has('R')))
	}
	return code
}

func change(p system.Process, name, mode string, deep bool) int {
	info, err := p.Stat(name, true)
	if err == nil {
		var bits uint32
		if bits, err = newMode(mode, info.Mode, info.Kind == system.Directory); err == nil {
			err = p.Chmod(name, bits)
		}
	}
	if err != nil {
		return complain(p, 1, "chmod: '%s': %s", name, Message(err))
	}
	if !deep || info.Kind != system.Directory {
		return 0
	}
	entries, err := p.ReadDir(name)
	if err != nil {
		return complain(p, 1, "chmod: '%s': %s", name, Message(err))
	}
	code := 0
	for _, e := range entries {
		if e.Kind != system.Symlink {
			code = max(code, change(p, path.Join(name, e.Name), mode, true))
		}
	}
	return code
}

// newMode applies a mode in octal or in letters to the present one.
func newMode(text string, mode uint32, folder bool) (uint32, error) {
	if bits, err := strconv.ParseUint(text, 8, 12); err == nil {
		return uint32(bits), nil
	}
	for clause := range strings.SplitSeq(text, ",") {
		at := strings.IndexAny(clause, "+-=")
		if at < 0 {
			return 0, fmt.Errorf("mode %q: want octal digits or such as u+x", text)
		}
		var mask, bits uint32
		for _, who := range clause[:at] {
			m, known := map[rune]uint32{'u': 0o4700, 'g': 0o2070, 'o': 0o1007, 'a': 0o7777}[who]
			if !known {
				return 0, fmt.Errorf("mode %q: nobody is %c", text, who)
			}
			mask |= m
		}
		if mask == 0 {
			mask = 0o7777
		}
		for _, what := range clause[at+1:] {
			b, known := map[rune]uint32{'r': 0o444, 'w': 0o222, 'x': 0o111, 's': 0o6000, 't': 0o1000, 'X': 0}[what]
			if !known {
				return 0, fmt.Errorf("mode %q: no permission %c", text, what)
			}
			if what == 'X' && (folder || mode&0o111 != 0) {
				b = 0o111
			}
			bits |= b
		}
		switch bits &= mask; clause[at] {
		case '+':
			mode |= bits
		case '-':
			mode &^= bits
		default:
			mode = mode&^(mask&0o777) | bits
		}
	}
	return mode, nil
}
