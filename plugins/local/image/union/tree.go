package union

import (
	"fmt"
	"io"

	"github.com/sandbar-dev/sandbar/plugins/local/erofs"
)

// Sink takes the content of files; *erofs.Writer is one.
type Sink interface {
	// WriteFile keeps the size bytes that r has.
	WriteFile(r io.Reader, size int64) (erofs.Extent, error)
	// Discard drops content that no file has any more.
	Discard(erofs.Extent) error
}

// Limits bound what an image may make of a small download. Zero means default.
type Limits struct {
	// Bytes is the content of all files of all layers, replaced ones included.
	Bytes int64
	// Entries is how many files and directories the tree may have at once.
	Entries int
}

const (
	// defaultBytes is far above the largest images in common use (about 30 GB).
	defaultBytes = 128 << 30
	// defaultEntries keeps the tree below about half a gigabyte of memory.
	defaultEntries = 2 << 20
	// maxDepth is a path of PATH_MAX bytes made of one-letter names; it also
	// bounds every recursion over the tree.
	maxDepth = 2048
	// maxLinks is how many symbolic links Linux follows in one path.
	maxLinks = 40
)

// Invalid is an image that no correct reader can take: the fault is in the
// image, not in this machine or on the way.
type Invalid struct {
	// Path is the entry's name as the layer has it, or empty.
	Path string
	// Problem says what is wrong.
	Problem string
	// Err is the cause, or nil.
	Err error
}

func (e *Invalid) Error() string {
	if e.Path == "" {
		return e.Problem
	}
	return fmt.Sprintf("entry %q: %s", e.Path, e.Problem)
}

// Unwrap returns the cause.
func (e *Invalid) Unwrap() error { return e.Err }

// TooLarge is an image beyond one of the Limits.
type TooLarge struct {
	// Limit is bytes or entries.
	Limit string
	Max   int64
}

func (e *TooLarge) Error() string {
	return fmt.Sprintf("image has more than %d %s", e.Max, e.Limit)
}

// Tree is the union of the layers applied so far.
type Tree struct {
	sink   Sink
	limits Limits
	root   *node
	// layer numbers the layer being applied, from 1.
	layer         int
	entries       int
	bytes         int64
	droppedXattrs int
}

// node is a name in the tree. Several nodes may share a file: hard links.
type node struct {
	file *file
	// children is nil unless file is a directory.
	children map[string]*node
	// own is the layer that last had an entry for this very name, 0 if none did
	// and the directory only came from being a parent.
	own int
	// seen is the layer that last put something at or below this name.
	seen int
}

type file struct {
	inode erofs.Inode
	// names counts the nodes that share the file.
	names int
}

// New returns a tree with an empty root directory.
func New(sink Sink, limits Limits) *Tree {
	if limits.Bytes == 0 {
		limits.Bytes = defaultBytes
	}
	if limits.Entries == 0 {
		limits.Entries = defaultEntries
	}
	return &Tree{sink: sink, limits: limits, root: newDirectory()}
}

// newDirectory returns a directory that no layer described.
func newDirectory() *node {
	n := &node{file: &file{names: 1}, children: map[string]*node{}}
	n.file.inode.Mode = erofs.TypeDir | 0o755
	return n
}

func (n *node) isDir() bool     { return n.children != nil }
func (n *node) isSymlink() bool { return n.file.inode.Mode&erofs.TypeMask == erofs.TypeSymlink }

// DroppedXattrs is how many extended attributes entries had so far.
func (t *Tree) DroppedXattrs() int { return t.droppedXattrs }

// Root returns the tree for erofs.Writer.Finish. The Tree must not be used
// afterwards.
func (t *Tree) Root() *erofs.Inode { return t.root.export() }

func (n *node) export() *erofs.Inode {
	inode := &n.file.inode
	for name, child := range n.children {
		inode.Entries = append(inode.Entries, erofs.Entry{Name: name, Inode: child.export()})
	}
	return inode
}

// put makes child the entry called name; what was there is removed.
func (t *Tree) put(dir *node, name string, child *node) error {
	if old := dir.children[name]; old != nil {
		if err := t.remove(dir, name); err != nil {
			return err
		}
	}
	t.entries++
	if t.entries > t.limits.Entries {
		return &TooLarge{Limit: "entries", Max: int64(t.limits.Entries)}
	}
	dir.children[name] = child
	return nil
}

func (t *Tree) remove(dir *node, name string) error {
	child := dir.children[name]
	delete(dir.children, name)
	t.entries--
	for below := range child.children {
		if err := t.remove(child, below); err != nil {
			return err
		}
	}
	return t.release(child.file)
}

// release ends one name of a file; with the last one its content goes.
func (t *Tree) release(f *file) error {
	f.names--
	if f.names > 0 || f.inode.Data.Size == 0 {
		return nil
	}
	return t.sink.Discard(f.inode.Data)
}

// hide removes what lower layers have at name.
func (t *Tree) hide(dir *node, name string) error {
	child := dir.children[name]
	switch {
	case child == nil:
		return nil
	case child.seen != t.layer:
		return t.remove(dir, name)
	case child.own != t.layer:
		// This layer has something below, but does not describe the directory.
		child.file.inode = newDirectory().file.inode
	}
	return t.hideBelow(child)
}

// hideBelow removes what lower layers have below a directory.
func (t *Tree) hideBelow(dir *node) error {
	for name := range dir.children {
		if err := t.hide(dir, name); err != nil {
			return err
		}
	}
	return nil
}
