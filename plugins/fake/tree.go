package fake

import (
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// node is a file, folder or symbolic link. The cloud's mutex guards all trees.
type node struct {
	Kind  kind
	Mode  uint32
	UID   uint32
	GID   uint32
	MTime time.Time
	Data  []byte
	Link  string
	Kids  map[string]*node
	// Inode tells names of one file from files of one content; 0: it has one name.
	// In memory they share the node.
	Inode uint64
}

// linked is called before a file gets another name.
func (n *node) linked() *node {
	if n.Inode == 0 {
		n.Inode = rand.Uint64() | 1 //nolint:gosec // tells files apart, guards nothing
	}
	return n
}

// rejoin lets names of one file share its node again, as they did before the trees
// were stored.
func rejoin(trees ...*node) {
	for _, n := range trees {
		if n != nil {
			n.share(map[uint64]*node{})
		}
	}
}

func (n *node) share(seen map[uint64]*node) {
	for name, kid := range n.Kids {
		switch first := seen[kid.Inode]; {
		case kid.Inode == 0:
			kid.share(seen)
		case first != nil:
			n.Kids[name] = first
		default:
			seen[kid.Inode] = kid
		}
	}
}

type kind uint8

const (
	regular kind = iota + 1
	folder
	symlink
)

func newFolder(now time.Time) *node {
	return &node{Kind: folder, Mode: 0o755, MTime: now, Kids: map[string]*node{}}
}

// clone returns a deep copy. Data is shared: what is there is replaced, never
// changed, and neither of the two can grow in place any more.
func (n *node) clone() *node { return n.cloneInto(map[uint64]*node{}) }

func (n *node) cloneInto(seen map[uint64]*node) *node {
	if same := seen[n.Inode]; n.Inode != 0 && same != nil {
		return same
	}
	if cap(n.Data) > len(n.Data) {
		n.Data = slices.Clip(n.Data)
	}
	c := *n
	if n.Inode != 0 {
		seen[n.Inode] = &c
	}
	if n.Kids != nil {
		c.Kids = make(map[string]*node, len(n.Kids))
		for name, kid := range n.Kids {
			c.Kids[name] = kid.cloneInto(seen)
		}
	}
	return &c
}

func (n *node) size() int64 {
	total := int64(len(n.Data))
	for _, kid := range n.Kids {
		total += kid.size()
	}
	return total
}

func (n *node) info(p string) *providerv1.FileInfo {
	types := map[kind]providerv1.FileType{
		regular: providerv1.FileType_FILE_TYPE_REGULAR, folder: providerv1.FileType_FILE_TYPE_DIRECTORY,
		symlink: providerv1.FileType_FILE_TYPE_SYMLINK, device: providerv1.FileType_FILE_TYPE_OTHER,
	}
	link := n.Link
	if n.Kind == device {
		link = ""
	}
	return &providerv1.FileInfo{
		Path: p, Type: types[n.Kind], Size: int64(len(n.Data)), Mode: n.Mode, Uid: n.UID, Gid: n.GID,
		ModifiedAt: timestamppb.New(n.MTime), LinkTarget: link,
	}
}

// view is the file system that a sandbox sees: its root, with volumes in place.
type view struct {
	root *node
	// mounts are trees by clean target path; readOnly says which refuse writes.
	mounts   map[string]*node
	readOnly map[string]bool
	// enter says which folders may be gone through; nil: all.
	enter func(*node) bool
}

// maxLinks is how many symbolic links a path may go through, as on Linux.
const maxLinks = 40

// place is where a path leads: the folder that holds its last element, and the
// node, which is nil if there is none.
type place struct {
	path   string
	parent *node
	name   string
	node   *node
	// readOnly is set below a read-only mount.
	readOnly bool
	mount    bool
}

// walk resolves p inside the view. Links are followed; the last one only if
// follow is set. Dots never lead above the root.
func (v *view) walk(p string, follow bool) (place, error) {
	links := 0
	return v.resolve(p, p, follow, &links)
}

func (v *view) resolve(full, p string, follow bool, links *int) (place, error) {
	at := place{path: "/", node: v.root}
	parts := strings.FieldsFunc(p, func(r rune) bool { return r == '/' })
	for i, part := range parts {
		last := i == len(parts)-1
		switch part {
		case ".":
			continue
		case "..":
			up, err := v.resolve(full, path.Dir(at.path), true, links)
			if err != nil {
				return place{}, err
			}
			at = up
			continue
		}
		if at.node == nil {
			return place{}, missing(full)
		}
		if at.node.Kind != folder {
			return place{}, refused(full, "ENOTDIR", "a part of it is not a folder")
		}
		if v.enter != nil && !v.enter(at.node) {
			return place{}, refused(full, "EACCES", "a part of it may not be entered")
		}
		next := v.step(at, part)
		if next.node != nil && next.node.Kind == symlink && (!last || follow) {
			*links++
			if *links > maxLinks {
				return place{}, refused(full, "ELOOP", "it has too many symbolic links")
			}
			target := next.node.Link
			if !strings.HasPrefix(target, "/") {
				target = path.Join(at.path, target)
			}
			followed, err := v.resolve(full, target, true, links)
			if err != nil {
				return place{}, err
			}
			next = followed
		}
		at = next
	}
	return at, nil
}

func (v *view) step(at place, name string) place {
	next := place{path: path.Join(at.path, name), parent: at.node, name: name, readOnly: at.readOnly}
	if m := v.mounts[next.path]; m != nil {
		next.node, next.readOnly, next.mount = m, v.readOnly[next.path], true
		return next
	}
	next.node = at.node.Kids[name]
	return next
}

// existing is walk for a path that must lead to something.
func (v *view) existing(p string, follow bool) (place, error) {
	at, err := v.walk(p, follow)
	if err != nil {
		return place{}, err
	}
	if at.node == nil {
		return place{}, missing(p)
	}
	return at, nil
}

// mountOf returns the mount that a clean path is on.
func (v *view) mountOf(p string) string {
	for ; p != "/"; p = path.Dir(p) {
		if v.mounts[p] != nil {
			return p
		}
	}
	return p
}

// names returns what a folder holds, mounts included, sorted.
func (v *view) names(at place) []string {
	set := map[string]bool{}
	for name := range at.node.Kids {
		set[name] = true
	}
	for target := range v.mounts {
		if path.Dir(target) == at.path && target != "/" {
			set[path.Base(target)] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// each calls f for everything below at, in byte order of path, without
// following links. Devices are nobody's files: it leaves them out.
func (v *view) each(at place, f func(place) error) error {
	for _, name := range v.names(at) {
		kid := v.step(at, name)
		if kid.node == nil || kid.node == devices() {
			continue
		}
		if err := f(kid); err != nil {
			return err
		}
		if kid.node.Kind == folder {
			if err := v.each(kid, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeFolders makes missing parents of p.
func (v *view) makeFolders(p string, now time.Time) error {
	at, err := v.walk(p, true)
	if fault.Has(err, providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND) || (err == nil && at.node == nil) {
		if up := path.Dir(p); up != p {
			if err := v.makeFolders(up, now); err != nil {
				return err
			}
		}
		if at, err = v.walk(p, true); err != nil {
			return err
		}
		return v.put(p, at, newFolder(now))
	}
	if err != nil {
		return err
	}
	if at.node.Kind != folder {
		return refused(p, "ENOTDIR", "it is not a folder")
	}
	return nil
}

// put links n at a place that walk found.
func (v *view) put(p string, at place, n *node) error {
	switch {
	case at.parent == nil:
		return refused(p, "EISDIR", "it is the root")
	case at.readOnly:
		return refused(p, "EROFS", "it is on a read-only mount")
	case at.mount:
		return refused(p, "EBUSY", "it is a mount")
	}
	at.parent.Kids[at.name] = n
	return nil
}

func missing(p string) error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND, "%s does not exist", p).With("path", p)
}

func refused(p, errno, why string) error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_FILE_REFUSED, "%s: %s", p, why).With("path", p).With("errno", errno)
}

// sorted returns what is below at in byte order of path, which is not the order
// of a walk: "a.b" comes before "a/b".
func (v *view) sorted(at place, recursive bool) []place {
	var out []place
	if recursive {
		_ = v.each(at, func(p place) error { // the function never fails
			out = append(out, p)
			return nil
		})
	} else {
		for _, name := range v.names(at) {
			if kid := v.step(at, name); kid.node != nil {
				out = append(out, kid)
			}
		}
	}
	slices.SortFunc(out, func(a, b place) int { return strings.Compare(a.path, b.path) })
	return out
}

// paths returns everything below n by path.
func paths(n *node, at string) map[string]*node {
	out := map[string]*node{}
	var add func(n *node, at string)
	add = func(n *node, at string) {
		for name, kid := range n.Kids {
			p := path.Join(at, name)
			out[p] = kid
			add(kid, p)
		}
	}
	add(n, at)
	return out
}

// merge returns the paths of both, sorted.
func merge(a, b map[string]*node) []string {
	set := maps.Clone(a)
	maps.Copy(set, b)
	return slices.Sorted(maps.Keys(set))
}
