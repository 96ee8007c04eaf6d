package fake

import (
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/fake/shell"
	"github.com/sandbar-dev/sandbar/plugins/fake/system"
	"github.com/sandbar-dev/sandbar/plugins/fake/userland"
)

// imageTime is the age of all files of the base image.
var imageTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// baseTree is shared by all sandboxes until they write. It is a copy, so that
// nothing in it can grow in place and no later copy has anything to change in it.
var baseTree = sync.OnceValue(func() *node { return makeBase().clone() })

// magic begins a file that is one of the fake's own programs, and is followed by
// its name. Copies of such a file are the same program.
const magic = "#!fake"

// program returns one of the fake's own programs, or nil.
func program(name string) system.Program {
	switch name {
	case "sh":
		return shell.Posix
	case "bash":
		return shell.Bash
	}
	return userland.Programs[name]
}

func makeBase() *node {
	root := newFolder(imageTime)
	v := &view{root: root}
	for _, dir := range []string{"/bin", "/etc", "/home/user", "/root", "/tmp", "/usr", "/var/tmp", "/work"} {
		_ = v.makeFolders(dir, imageTime) // into an empty tree this cannot fail
	}
	root.Kids["tmp"].Mode, root.Kids["var"].Kids["tmp"].Mode = 0o1777, 0o1777
	root.Kids["root"].Mode = 0o700
	home := root.Kids["home"].Kids["user"]
	home.UID, home.GID = users["user"], users["user"]
	file := func(mode uint32, text string) *node {
		return &node{Kind: regular, Mode: mode, MTime: imageTime, Data: []byte(text)}
	}
	root.Kids["etc"].Kids["os-release"] = file(0o644, "ID=fake\nNAME=\"Sandbar fake\"\n")
	bin := root.Kids["bin"]
	for name := range userland.Programs {
		bin.Kids[name] = file(0o755, magic+" "+name+"\n")
	}
	bin.Kids["sh"], bin.Kids["bash"] = file(0o755, magic+" sh\n"), file(0o755, magic+" bash\n")
	root.Kids["usr"].Kids["bin"] = &node{Kind: symlink, Mode: 0o777, MTime: imageTime, Link: "/bin"}
	return root
}

// maxInterpreters is how many scripts may interpret each other, as on Linux.
const maxInterpreters = 4

// Exec implements system.Process.
func (p *process) Exec(file string, argv, env []string) error {
	for range maxInterpreters {
		head, err := p.head(file)
		if err != nil {
			return err
		}
		line, isScript := strings.CutPrefix(head, "#!")
		if name, own := strings.CutPrefix(head, magic); own {
			if name = strings.TrimSpace(name); name == "" {
				name = path.Base(file)
			}
			f := program(name)
			if f == nil {
				return syscall.ENOEXEC
			}
			p.become(argv, env)
			p.Exit(f(p, argv))
		}
		interpreter, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !isScript || interpreter == "" {
			return syscall.ENOEXEC
		}
		next := []string{interpreter}
		if arg = strings.TrimSpace(arg); arg != "" {
			next = append(next, arg)
		}
		argv = append(append(next, file), argv[1:]...)
		file = interpreter
	}
	return syscall.ELOOP
}

// head returns the first line of a file that may be executed.
func (p *process) head(file string) (line string, err error) {
	err = p.onTree(file, false, func(v *view, name string) error {
		at, err := v.existing(name, true)
		switch {
		case err != nil:
			return err
		case at.node.Kind != regular || !at.node.may(p.uid, p.gid, mayEnter):
			return syscall.EACCES
		}
		line, _, _ = strings.Cut(string(at.node.Data[:min(256, len(at.node.Data))]), "\n")
		return nil
	})
	return line, err
}

// become makes the process what its new program expects.
func (p *process) become(argv, env []string) {
	p.cloud.mu.Lock()
	p.argv = argv
	p.cloud.mu.Unlock()
	p.env = env
	for fd, s := range p.files {
		if s.closeOnExec {
			_ = p.Close(fd) // it is open
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for s, a := range p.actions {
		if a == system.Catch {
			delete(p.actions, s)
		}
	}
	p.pending, p.interrupted = nil, false
}
