package userland

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

func ls(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "1aAdFlnRrSt", map[string]byte{"all": 'a', "almost-all": 'A', "directory": 'd', "recursive": 'R', "reverse": 'r'})
	if !ok {
		return 2
	}
	if len(o.args) == 0 {
		o.args = []string{"."}
	}
	code := 0
	var files []system.Info
	var folders []string
	for _, name := range o.args {
		info, err := p.Stat(name, !o.has('l') && !o.has('n') && !o.has('d'))
		if err != nil {
			info, err = p.Stat(name, false) // a link that leads nowhere
		}
		switch {
		case err != nil:
			code = complain(p, 2, "ls: cannot access '%s': %s", name, Message(err))
		case info.Kind == system.Directory && !o.has('d'):
			folders = append(folders, name)
		default:
			info.Name = name
			files = append(files, info)
		}
	}
	code = max(code, o.show(p, files))
	titled := len(o.args) > 1 || o.has('R')
	for i, name := range folders {
		if i > 0 || len(files) > 0 {
			print(p, "ls", "\n")
		}
		code = max(code, o.folder(p, name, titled))
	}
	return code
}

func (o options) folder(p system.Process, name string, titled bool) int {
	entries, err := p.ReadDir(name)
	if err != nil {
		return complain(p, 2, "ls: cannot open directory '%s': %s", name, Message(err))
	}
	if !o.has('a') && !o.has('A') {
		entries = slices.DeleteFunc(entries, func(e system.Info) bool { return strings.HasPrefix(e.Name, ".") })
	}
	if o.has('a') {
		for _, dots := range []string{"..", "."} {
			if info, err := p.Stat(path.Join(name, dots), true); err == nil {
				info.Name = dots
				entries = slices.Insert(entries, 0, info)
			}
		}
	}
	if titled {
		print(p, "ls", name+":\n")
	}
	code := o.show(p, entries)
	if !o.has('R') {
		return code
	}
	for _, e := range entries {
		if e.Kind == system.Directory && e.Name != "." && e.Name != ".." {
			print(p, "ls", "\n")
			code = max(code, o.folder(p, path.Join(name, e.Name), true))
		}
	}
	return code
}

// show prints entries in the order that the options ask for.
func (o options) show(p system.Process, entries []system.Info) int {
	switch {
	case o.has('t'):
		slices.SortStableFunc(entries, func(a, b system.Info) int { return b.Modified.Compare(a.Modified) })
	case o.has('S'):
		slices.SortStableFunc(entries, func(a, b system.Info) int { return int(max(-1, min(1, b.Size-a.Size))) })
	}
	if o.has('r') {
		slices.Reverse(entries)
	}
	var out strings.Builder
	for _, e := range entries {
		name := e.Name
		if o.has('F') {
			switch {
			case e.Kind == system.Directory:
				name += "/"
			case e.Kind == system.Symlink:
				name += "@"
			case e.Mode&0o111 != 0:
				name += "*"
			}
		}
		if !o.has('l') && !o.has('n') {
			out.WriteString(name + "\n")
			continue
		}
		user, group := userName(e.UID), userName(e.GID)
		if o.has('n') {
			user, group = strconv.FormatUint(uint64(e.UID), 10), strconv.FormatUint(uint64(e.GID), 10)
		}
		if e.Kind == system.Symlink {
			name += " -> " + e.Target
		}
		fmt.Fprintf(&out, "%s 1 %-6s %-6s %8d %s %s\n", modeText(e), user, group, e.Size, e.Modified.UTC().Format("Jan _2 15:04"), name)
	}
	return print(p, "ls", out.String())
}

// modeText is a file's type and mode as ls -l shows them.
func modeText(e system.Info) string {
	text := []byte("?rwxrwxrwx")
	text[0] = "?-dlcps"[min(int(e.Kind), 6)]
	for i := range 9 {
		if e.Mode&(1<<(8-i)) == 0 {
			text[i+1] = '-'
		}
	}
	for i, bit := range []uint32{0o4000, 0o2000, 0o1000} {
		at := 3 * (i + 1)
		if e.Mode&bit == 0 {
			continue
		}
		letter := "sst"[i]
		if text[at] == '-' {
			letter -= 'a' - 'A'
		}
		text[at] = letter
	}
	return string(text)
}

func readlink(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "efn", map[string]byte{"canonicalize": 'f', "canonicalize-existing": 'e', "no-newline": 'n'})
	if !ok {
		return 2
	}
	if len(o.args) == 0 {
		return complain(p, 2, "readlink: want a file")
	}
	code := 0
	for _, name := range o.args {
		var target string
		var err error
		switch {
		case o.has('f') || o.has('e'):
			target, err = p.Resolve(name)
			if err != nil && o.has('f') { // the last part may be missing
				if target, err = p.Resolve(path.Dir(name)); err == nil {
					target = path.Join(target, path.Base(name))
				}
			}
		default:
			target, err = p.Readlink(name)
		}
		if err != nil {
			code = 1
			continue
		}
		end := "\n"
		if o.has('n') {
			end = ""
		}
		code = max(code, print(p, "readlink", target+end))
	}
	return code
}
