package fake

import (
	"os"
	"strings"
	"syscall"
)

// Open implements system.Process.
func (p *process) Open(name string, flags int, mode uint32) (int, error) {
	writes := flags&(os.O_WRONLY|os.O_RDWR) != 0
	var opened *node
	var full string
	err := p.onTree(name, false, func(v *view, name string) error {
		if v.root == p.box.Base { // an open file stays the same one when the sandbox writes
			enter := v.enter
			v = p.cloud.edit(p.box)
			v.enter = enter
		}
		at, err := v.walk(name, flags&os.O_EXCL == 0)
		if err != nil {
			return err
		}
		full = at.path
		switch {
		case at.node == nil && flags&os.O_CREATE == 0:
			return syscall.ENOENT
		case at.node == nil && strings.HasSuffix(name, "/"):
			return syscall.EISDIR
		case at.node == nil:
			opened = &node{Kind: regular, Mode: mode &^ p.umask}
			if err := p.made(v, name, at, opened); err != nil {
				return err
			}
			p.save()
			return nil
		case flags&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
			return syscall.EEXIST
		case at.node.Kind == folder && writes:
			return syscall.EISDIR
		case at.node.Kind == regular && strings.HasSuffix(name, "/"):
			return syscall.ENOTDIR
		case writes && at.readOnly && at.node.Kind != device:
			return syscall.EROFS
		case writes && !at.node.may(p.uid, p.gid, mayWrite), flags&os.O_WRONLY == 0 && !at.node.may(p.uid, p.gid, mayRead):
			return syscall.EACCES
		}
		opened = at.node
		if flags&os.O_TRUNC != 0 && writes && opened.Kind == regular {
			opened.Data, opened.MTime = nil, p.cloud.now()
			p.save()
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if opened.Kind == device {
		return p.openDevice(opened, flags)
	}
	return p.install(slot{open: newOpen(&regularFile{node: opened, path: full, flags: flags}, flags)}, 0)
}
