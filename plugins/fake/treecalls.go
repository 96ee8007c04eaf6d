package fake

import (
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// Access bits of a file's mode.
const (
	mayRead   = 4
	mayWrite  = 2
	mayEnter  = 1
	stickyBit = 0o1000
)

// may says whether a user may do to a file what mode asks for.
func (n *node) may(uid, gid uint32, mode uint32) bool {
	switch {
	case uid == 0:
		return n.Kind == folder || mode&mayEnter == 0 || n.Mode&0o111 != 0
	case n.UID == uid:
		return n.Mode>>6&mode == mode
	case n.GID == gid:
		return n.Mode>>3&mode == mode
	}
	return n.Mode&mode == mode
}

// mayRemove says whether a user may take the name of at away.
func (at place) mayRemove(uid, gid uint32) error {
	switch {
	case at.parent == nil || at.mount:
		return syscall.EBUSY
	case at.readOnly:
		return syscall.EROFS
	case !at.parent.may(uid, gid, mayWrite|mayEnter):
		return syscall.EACCES
	case at.parent.Mode&stickyBit != 0 && uid != 0 && uid != at.node.UID && uid != at.parent.UID:
		return syscall.EPERM
	}
	return nil
}

// onTree runs f on the sandbox's files as the process may see them, and stores
// the outcome if f changes something.
func (p *process) onTree(name string, changes bool, f func(v *view, name string) error) error {
	p.Checkpoint()
	if name == "" {
		return syscall.ENOENT
	}
	if !strings.HasPrefix(name, "/") {
		name = p.dir + "/" + name
	}
	p.cloud.mu.Lock()
	defer p.cloud.mu.Unlock()
	var v *view
	if changes {
		v = p.cloud.edit(p.box)
	} else {
		v = p.cloud.view(p.box)
	}
	v.enter = func(n *node) bool { return n.may(p.uid, p.gid, mayEnter) }
	if err := f(v, name); err != nil {
		return errno(err)
	}
	if changes {
		p.save()
	}
	return nil
}

// made puts a new file at a name that does not exist. The caller holds the
// cloud's mutex.
func (p *process) made(v *view, name string, at place, n *node) error {
	switch {
	case at.node != nil:
		return syscall.EEXIST
	case at.parent == nil:
		return syscall.EEXIST
	case at.readOnly:
		return syscall.EROFS
	case !at.parent.may(p.uid, p.gid, mayWrite|mayEnter):
		return syscall.EACCES
	}
	n.UID, n.GID = p.uid, p.gid
	if n.MTime.IsZero() {
		n.MTime = p.cloud.now()
	}
	at.parent.MTime = p.cloud.now()
	return v.put(name, at, n)
}

// Dir implements system.Process.
func (p *process) Dir() string { return p.dir }

// Chdir implements system.Process.
func (p *process) Chdir(name string) error {
	return p.onTree(name, false, func(v *view, name string) error {
		at, err := v.existing(name, true)
		switch {
		case err != nil:
			return err
		case at.node.Kind != folder:
			return syscall.ENOTDIR
		case !at.node.may(p.uid, p.gid, mayEnter):
			return syscall.EACCES
		}
		p.dir = at.path
		return nil
	})
}

// Umask implements system.Process.
func (p *process) Umask(mask uint32) uint32 {
	old := p.umask
	p.umask = mask & 0o777
	return old
}

// Stat implements system.Process.
func (p *process) Stat(name string, follow bool) (info system.Info, err error) {
	err = p.onTree(name, false, func(v *view, name string) error {
		at, err := v.existing(name, follow || strings.HasSuffix(name, "/"))
		if err != nil {
			return err
		}
		info = infoOf(path.Base(name), at.node)
		return nil
	})
	return info, err
}

// Access implements system.Process.
func (p *process) Access(name string, mode uint32) error {
	return p.onTree(name, false, func(v *view, name string) error {
		at, err := v.existing(name, true)
		switch {
		case err != nil:
			return err
		case mode&mayWrite != 0 && at.readOnly && at.node.Kind != device:
			return syscall.EROFS
		case !at.node.may(p.uid, p.gid, mode):
			return syscall.EACCES
		}
		return nil
	})
}

// ReadDir implements system.Process.
func (p *process) ReadDir(name string) (out []system.Info, err error) {
	err = p.onTree(name, false, func(v *view, name string) error {
		at, err := v.existing(name, true)
		switch {
		case err != nil:
			return err
		case at.node.Kind != folder:
			return syscall.ENOTDIR
		case !at.node.may(p.uid, p.gid, mayRead):
			return syscall.EACCES
		}
		for _, kid := range v.names(at) {
			if at := v.step(at, kid); at.node != nil {
				out = append(out, infoOf(kid, at.node))
			}
		}
		return nil
	})
	return out, err
}

// Resolve implements system.Process.
func (p *process) Resolve(name string) (full string, err error) {
	err = p.onTree(name, false, func(v *view, name string) error {
		at, err := v.existing(name, true)
		full = at.path
		return err
	})
	return full, err
}

// Readlink implements system.Process.
func (p *process) Readlink(name string) (target string, err error) {
	err = p.onTree(name, false, func(v *view, name string) error {
		at, err := v.existing(name, false)
		if err == nil && at.node.Kind != symlink {
			err = syscall.EINVAL
		}
		if err == nil {
			target = at.node.Link
		}
		return err
	})
	return target, err
}

// Mkdir implements system.Process.
func (p *process) Mkdir(name string, mode uint32) error {
	return p.onTree(name, true, func(v *view, name string) error {
		at, err := v.walk(name, true)
		if err != nil {
			return err
		}
		n := newFolder(p.cloud.now())
		n.Mode = mode &^ p.umask
		return p.made(v, name, at, n)
	})
}

// Symlink implements system.Process.
func (p *process) Symlink(target, name string) error {
	return p.onTree(name, true, func(v *view, name string) error {
		at, err := v.walk(name, false)
		if err != nil {
			return err
		}
		return p.made(v, name, at, &node{Kind: symlink, Mode: 0o777, Link: target})
	})
}

// Link implements system.Process.
func (p *process) Link(from, to string) error {
	return p.onTree(to, true, func(v *view, to string) error {
		at, target, err := v.fromTo(p.absolute(from), to)
		switch {
		case err != nil:
			return err
		case at.node.Kind == folder:
			return syscall.EPERM
		}
		uid, gid := at.node.UID, at.node.GID
		err = p.made(v, to, target, at.node.linked())
		at.node.UID, at.node.GID = uid, gid
		return err
	})
}

// Unlink implements system.Process.
func (p *process) Unlink(name string) error {
	return p.onTree(name, true, func(v *view, name string) error {
		at, err := v.existing(name, false)
		if err == nil && at.node.Kind == folder {
			err = syscall.EISDIR
		}
		if err != nil {
			return err
		}
		return p.takeAway(at)
	})
}

// Rmdir implements system.Process.
func (p *process) Rmdir(name string) error {
	return p.onTree(name, true, func(v *view, name string) error {
		at, err := v.existing(name, false)
		switch {
		case err != nil:
			return err
		case at.node.Kind != folder:
			return syscall.ENOTDIR
		case len(v.names(at)) > 0:
			return syscall.ENOTEMPTY
		}
		return p.takeAway(at)
	})
}

func (p *process) takeAway(at place) error {
	if err := at.mayRemove(p.uid, p.gid); err != nil {
		return err
	}
	delete(at.parent.Kids, at.name)
	at.parent.MTime = p.cloud.now()
	return nil
}

// absolute is a name as it stands from the root.
func (p *process) absolute(name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	return p.dir + "/" + name
}

// fromTo finds what exists under one name, and the place of another, which is on
// the same mount.
func (v *view) fromTo(from, to string) (at, target place, err error) {
	if at, err = v.existing(from, false); err != nil {
		return at, target, err
	}
	if target, err = v.walk(to, false); err == nil && v.mountOf(at.path) != v.mountOf(target.path) {
		err = syscall.EXDEV
	}
	return at, target, err
}

// Rename implements system.Process.
func (p *process) Rename(from, to string) error {
	return p.onTree(from, true, func(v *view, from string) error {
		at, target, err := v.fromTo(from, p.absolute(to))
		switch {
		case err != nil:
			return err
		case at.node == target.node:
			return nil
		case strings.HasPrefix(target.path+"/", at.path+"/"):
			return syscall.EINVAL
		}
		if err := at.mayRemove(p.uid, p.gid); err != nil {
			return err
		}
		if old := target.node; old != nil {
			switch {
			case old.Kind == folder && at.node.Kind != folder:
				return syscall.EISDIR
			case old.Kind != folder && at.node.Kind == folder:
				return syscall.ENOTDIR
			case old.Kind == folder && len(v.names(target)) > 0:
				return syscall.ENOTEMPTY
			}
			if err := target.mayRemove(p.uid, p.gid); err != nil {
				return err
			}
		} else if target.parent == nil || !target.parent.may(p.uid, p.gid, mayWrite|mayEnter) {
			return syscall.EACCES
		}
		if err := v.put(to, target, at.node); err != nil {
			return err
		}
		delete(at.parent.Kids, at.name)
		at.parent.MTime, target.parent.MTime = p.cloud.now(), p.cloud.now()
		return nil
	})
}

// owned runs f on a file that the process may change the attributes of.
func (p *process) owned(name string, f func(n *node)) error {
	return p.onTree(name, true, func(v *view, name string) error {
		at, err := v.existing(name, true)
		switch {
		case err != nil:
			return err
		case at.readOnly:
			return syscall.EROFS
		case p.uid != 0 && p.uid != at.node.UID:
			return syscall.EPERM
		}
		f(at.node)
		return nil
	})
}

// Chmod implements system.Process.
func (p *process) Chmod(name string, mode uint32) error {
	return p.owned(name, func(n *node) { n.Mode = mode & 0o7777 })
}

// Chtimes implements system.Process.
func (p *process) Chtimes(name string, modified time.Time) error {
	return p.owned(name, func(n *node) { n.MTime = modified })
}

// Chown implements system.Process.
func (p *process) Chown(name string, uid, gid uint32) error {
	return p.onTree(name, true, func(v *view, name string) error {
		at, err := v.existing(name, false)
		switch {
		case err != nil:
			return err
		case at.readOnly:
			return syscall.EROFS
		case p.uid != 0:
			return syscall.EPERM
		}
		at.node.UID, at.node.GID = uid, gid
		return nil
	})
}

// Hostname implements system.Process.
func (p *process) Hostname() string { return hostname(p.box) }
