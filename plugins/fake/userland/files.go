package userland

import (
	"fmt"
	"os"
	"path"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

func mkdir(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "m:p", map[string]byte{"mode": 'm', "parents": 'p'})
	if !ok {
		return 2
	}
	if len(o.args) == 0 {
		return complain(p, 2, "mkdir: want a folder")
	}
	code := 0
	for _, name := range o.args {
		err := p.Mkdir(name, 0o777)
		if o.has('p') {
			err = makeAll(p, name)
		}
		if err == nil && o.has('m') {
			var mode uint32
			if mode, err = newMode(o.set['m'], 0o777, true); err == nil {
				err = p.Chmod(name, mode)
			}
		}
		if err != nil {
			code = complain(p, 1, "mkdir: cannot create directory '%s': %s", name, Message(err))
		}
	}
	return code
}

func makeAll(p system.Process, name string) error {
	err := p.Mkdir(name, 0o777)
	if err == syscall.ENOENT && path.Dir(name) != name { //nolint:errorlint // returned bare
		if err := makeAll(p, path.Dir(name)); err != nil {
			return err
		}
		err = p.Mkdir(name, 0o777)
	}
	if info, found := p.Stat(name, true); found == nil && info.Kind == system.Directory {
		return nil
	}
	return err
}

func rmdir(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "p", map[string]byte{"parents": 'p'})
	if !ok {
		return 2
	}
	code := 0
	for _, name := range o.args {
		for at := name; ; at = path.Dir(at) {
			if err := p.Rmdir(at); err != nil {
				code = complain(p, 1, "rmdir: failed to remove '%s': %s", at, Message(err))
				break
			}
			if parent := path.Dir(at); !o.has('p') || parent == "." || parent == "/" {
				break
			}
		}
	}
	return code
}

func rm(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "dfrR", map[string]byte{"force": 'f', "recursive": 'r', "dir": 'd'})
	if !ok {
		return 2
	}
	if len(o.args) == 0 && !o.has('f') {
		return complain(p, 2, "rm: want a file")
	}
	code := 0
	for _, name := range o.args {
		if base := path.Base(name); base == "." || base == ".." || path.Clean(name) == "/" {
			code = complain(p, 1, "rm: refusing to remove '%s'", name)
			continue
		}
		code = max(code, remove(p, name, o))
	}
	return code
}

func remove(p system.Process, name string, o options) int {
	info, err := p.Stat(name, false)
	if (err == syscall.ENOENT || err == syscall.ENOTDIR) && o.has('f') { //nolint:errorlint // returned bare
		return 0
	}
	if err == nil && info.Kind == system.Directory {
		switch {
		case o.has('r') || o.has('R'):
			entries, err := p.ReadDir(name)
			if err != nil {
				return complain(p, 1, "rm: cannot remove '%s': %s", name, Message(err))
			}
			for _, e := range entries {
				if code := remove(p, path.Join(name, e.Name), o); code != 0 {
					return code
				}
			}
			err = p.Rmdir(name)
			if err != nil {
				return complain(p, 1, "rm: cannot remove '%s': %s", name, Message(err))
			}
			return 0
		case o.has('d'):
			err = p.Rmdir(name)
		default:
			err = syscall.EISDIR
		}
	} else if err == nil {
		err = p.Unlink(name)
	}
	if err != nil {
		return complain(p, 1, "rm: cannot remove '%s': %s", name, Message(err))
	}
	return 0
}

// pairs calls f for each source and where it goes: into the last argument if
// that is a folder, or else onto it.
func pairs(p system.Process, o options, program string, f func(from, to string) error) int {
	if len(o.args) < 2 {
		return complain(p, 2, "%s: want a source and a target", program)
	}
	sources, target := o.args[:len(o.args)-1], o.args[len(o.args)-1]
	info, err := p.Stat(target, true)
	into := err == nil && info.Kind == system.Directory && !o.has('T')
	if link, err := p.Stat(target, false); program == "ln" && o.has('n') && err == nil && link.Kind == system.Symlink {
		into = false
	}
	if !into && len(sources) > 1 {
		return complain(p, 1, "%s: target '%s': Not a directory", program, target)
	}
	code := 0
	for _, from := range sources {
		to := target
		if into {
			to = path.Join(target, path.Base(from))
		}
		if err := f(from, to); err != nil {
			code = complain(p, 1, "%s: '%s' to '%s': %s", program, from, to, Message(err))
		}
	}
	return code
}

func mv(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "fnT", map[string]byte{"force": 'f', "no-clobber": 'n'})
	if !ok {
		return 2
	}
	return pairs(p, o, "mv", func(from, to string) error {
		if _, err := p.Stat(to, false); err == nil && o.has('n') {
			return nil
		}
		err := p.Rename(from, to)
		if err != syscall.EXDEV { //nolint:errorlint // returned bare
			return err
		}
		all := options{set: map[byte]string{'a': "", 'r': ""}}
		if err := copyTree(p, from, to, all); err != nil {
			return err
		}
		if remove(p, from, all) != 0 {
			return syscall.EBUSY
		}
		return nil
	})
}

func ln(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "fnsT", map[string]byte{"symbolic": 's', "force": 'f', "no-dereference": 'n'})
	if !ok {
		return 2
	}
	if len(o.args) == 1 {
		o.args = append(o.args, ".")
	}
	return pairs(p, o, "ln", func(from, to string) error {
		if o.has('f') {
			if err := p.Unlink(to); err != nil && err != syscall.ENOENT { //nolint:errorlint // returned bare
				return err
			}
		}
		if o.has('s') {
			return p.Symlink(from, to)
		}
		return p.Link(from, to)
	})
}

func cp(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "afnprRT", map[string]byte{"recursive": 'r', "force": 'f', "archive": 'a', "no-clobber": 'n'})
	if !ok {
		return 2
	}
	return pairs(p, o, "cp", func(from, to string) error { return copyTree(p, from, to, o) })
}

func copyTree(p system.Process, from, to string, o options) error {
	deep := o.has('r') || o.has('R') || o.has('a')
	info, err := p.Stat(from, !deep)
	if err != nil {
		return err
	}
	if there, err := p.Stat(to, false); err == nil {
		switch {
		case there.ID == info.ID:
			return syscall.EEXIST
		case o.has('n'):
			return nil
		}
	}
	switch info.Kind {
	case system.Directory:
		if !deep {
			return syscall.EISDIR
		}
		entries, err := p.ReadDir(from)
		if err != nil {
			return err
		}
		if err := p.Mkdir(to, info.Mode|0o700); err != nil && err != syscall.EEXIST { //nolint:errorlint // returned bare
			return err
		}
		for _, e := range entries {
			if err := copyTree(p, path.Join(from, e.Name), path.Join(to, e.Name), o); err != nil {
				return fmt.Errorf("%s: %w", e.Name, err)
			}
		}
	case system.Symlink:
		return p.Symlink(info.Target, to)
	default:
		if err := copyFile(p, from, to, info.Mode, o.has('f')); err != nil {
			return err
		}
	}
	if o.has('p') || o.has('a') {
		if err := p.Chmod(to, info.Mode); err != nil {
			return err
		}
		return p.Chtimes(to, info.Modified)
	}
	return nil
}

func copyFile(p system.Process, from, to string, mode uint32, force bool) error {
	in, err := p.Open(from, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = p.Close(in) }() // it was only read
	out, err := p.Open(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode&0o777)
	if err != nil && force && p.Unlink(to) == nil {
		out, err = p.Open(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode&0o777)
	}
	if err != nil {
		return err
	}
	c := copying{p: p, in: in, out: out, block: blockSize, count: -1}
	for err == nil {
		_, err = c.one(blockSize, true)
	}
	if closed := p.Close(out); closed != nil {
		return closed
	}
	if err.Error() == "EOF" {
		return nil
	}
	return err
}
