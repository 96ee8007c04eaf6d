package fake

import (
	"crypto/rand"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// device is a file of /dev, which every sandbox sees. It is no part of what a
// sandbox stores.
const device kind = 100

// devices is /dev. Link holds which device it is.
var devices = sync.OnceValue(makeDevices)

func makeDevices() *node {
	dir := newFolder(imageTime)
	for _, name := range []string{"full", "null", "random", "tty", "urandom", "zero"} {
		dir.Kids[name] = &node{Kind: device, Mode: 0o666, MTime: imageTime, Link: name}
	}
	for name, target := range map[string]string{"stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		dir.Kids[name] = &node{Kind: symlink, Mode: 0o777, MTime: imageTime, Link: target}
	}
	pts, fds := newFolder(imageTime), newFolder(imageTime)
	pts.Kids["0"] = &node{Kind: device, Mode: 0o620, MTime: imageTime, Link: "tty"}
	for _, fd := range "0123456789" {
		fds.Kids[string(fd)] = &node{Kind: device, Mode: 0o666, MTime: imageTime, Link: string(fd)}
	}
	dir.Kids["pts"], dir.Kids["fd"] = pts, fds
	return dir
}

// openDevice opens what Link says.
func (p *process) openDevice(n *node, flags int) (int, error) {
	switch name := n.Link; name {
	case "tty":
		if p.cmd.term == nil {
			return 0, syscall.ENXIO
		}
		return p.install(slot{open: newOpen(&terminalFile{p.cmd.term}, flags)}, 0)
	case "full", "null", "random", "urandom", "zero":
		return p.install(slot{open: newOpen(&deviceFile{node: n}, flags)}, 0)
	default:
		s := p.files[int(name[0]-'0')]
		if s.open == nil {
			return 0, syscall.ENOENT
		}
		s.retain()
		s.closeOnExec = false
		return p.install(s, 0)
	}
}

// deviceFile is an open device.
type deviceFile struct{ node *node }

func (f *deviceFile) read(_ *process, b []byte) (int, error) {
	switch f.node.Link {
	case "null":
		return 0, io.EOF
	case "random", "urandom":
		return rand.Read(b)
	}
	clear(b)
	return len(b), nil
}

func (f *deviceFile) write(_ *process, b []byte) (int, error) {
	if f.node.Link == "full" && len(b) > 0 {
		return 0, syscall.ENOSPC
	}
	return len(b), nil
}

func (f *deviceFile) info(*process) system.Info { return infoOf(f.node.Link, f.node) }
func (f *deviceFile) release(*process)          {}

var kinds = map[kind]system.Kind{
	regular: system.Regular, folder: system.Directory, symlink: system.Symlink, device: system.Device,
}

func infoOf(name string, n *node) system.Info {
	info := system.Info{
		Name: name, Kind: kinds[n.Kind], Mode: n.Mode, UID: n.UID, GID: n.GID, Size: int64(len(n.Data)), Modified: n.MTime, ID: n,
	}
	if n.Kind == symlink {
		info.Target, info.Size = n.Link, int64(len(n.Link))
	}
	return info
}

// regularFile is an open file of the tree, or an open folder. The cloud's mutex
// guards it and the node.
type regularFile struct {
	node  *node
	path  string
	at    int64
	flags int
	dirty bool
}

func (f *regularFile) read(p *process, b []byte) (int, error) {
	if f.node.Kind == folder {
		return 0, syscall.EISDIR
	}
	p.cloud.mu.Lock()
	defer p.cloud.mu.Unlock()
	if len(b) == 0 {
		return 0, nil
	}
	if f.at >= int64(len(f.node.Data)) {
		return 0, io.EOF
	}
	n := copy(b, f.node.Data[f.at:])
	f.at += int64(n)
	return n, nil
}

// write writes what the disk has room for.
func (f *regularFile) write(p *process, b []byte) (int, error) {
	c := p.cloud
	c.mu.Lock()
	defer c.mu.Unlock()
	n := f.node
	if f.flags&os.O_APPEND != 0 {
		f.at = int64(len(n.Data))
	}
	var full error
	grown := max(0, f.at+int64(len(b))-int64(len(n.Data)))
	if over := grown - c.free(p.box); over > 0 {
		b, full = b[:max(0, int64(len(b))-over)], syscall.ENOSPC
	}
	if len(b) > 0 {
		n.overwrite(f.at, b)
		n.MTime = c.now()
		f.at += int64(len(b))
		f.dirty = true
	}
	return len(b), full
}

// overwrite puts b into a file. Who has the old content, as a snapshot or a
// reader does, keeps it: only room that nobody else can see is written in place.
func (n *node) overwrite(at int64, b []byte) {
	end := at + int64(len(b))
	if at < int64(len(n.Data)) {
		whole := make([]byte, max(end, int64(len(n.Data))))
		copy(whole, n.Data)
		copy(whole[at:], b)
		n.Data = whole
		return
	}
	if gap := at - int64(len(n.Data)); gap > 0 {
		n.Data = append(n.Data, make([]byte, gap)...)
	}
	n.Data = append(n.Data, b...)
}

func (f *regularFile) info(p *process) system.Info {
	p.cloud.mu.Lock()
	defer p.cloud.mu.Unlock()
	return infoOf(f.path, f.node)
}

// release stores what was written.
func (f *regularFile) release(p *process) {
	p.cloud.mu.Lock()
	defer p.cloud.mu.Unlock()
	if f.dirty {
		p.save()
	}
}

// save stores the sandbox's files, unless it has ended. The caller holds the
// cloud's mutex.
func (p *process) save() {
	if p.cloud.boxes[p.box.Identity.ID] != p.box {
		return
	}
	if err := p.cloud.saveFiles(p.box); err != nil {
		p.cloud.log.Error("storing a sandbox's files failed", "sandbox_id", p.box.Identity.ID, "error", err)
	}
}

// Truncate implements system.Process.
func (p *process) Truncate(fd int, size int64) error {
	p.Checkpoint()
	s := p.files[fd]
	if s.open == nil {
		return syscall.EBADF
	}
	f, ok := s.open.file.(*regularFile)
	if !ok || f.node.Kind != regular || f.flags&(os.O_WRONLY|os.O_RDWR) == 0 {
		return syscall.EINVAL
	}
	p.cloud.mu.Lock()
	defer p.cloud.mu.Unlock()
	if grown := size - int64(len(f.node.Data)); grown > p.cloud.free(p.box) {
		return syscall.ENOSPC
	}
	data := make([]byte, size)
	copy(data, f.node.Data)
	f.node.Data, f.node.MTime, f.dirty = data, p.cloud.now(), true
	return nil
}
