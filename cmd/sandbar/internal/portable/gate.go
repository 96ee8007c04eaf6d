package portable

import (
	"archive/tar"
	"io"
	"path"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// maxName bounds the name of an entry, as Linux bounds a path.
const maxName = 4095

// Gate admits the entries of a layer one by one, in their order. Names in a layer
// are those of the sandbox without the first slash.
type Gate struct {
	roots map[string]bool
	// kinds are the entries that were admitted.
	kinds map[string]byte
}

// NewGate returns a gate to the given absolute paths.
func NewGate(paths []string) *Gate {
	g := &Gate{roots: make(map[string]bool, len(paths)), kinds: map[string]byte{}}
	for _, p := range paths {
		g.roots[strings.TrimPrefix(p, "/")] = true
	}
	return g
}

// Admit returns the path that an entry belongs to, or refuses it.
func (g *Gate) Admit(h *tar.Header) (root string, err error) {
	name := strings.TrimSuffix(h.Name, "/")
	switch {
	case name == "" || len(name) > maxName || cleaned(name) != name || strings.ContainsRune(name, 0):
		return "", refused(h.Name, "its name leads somewhere else")
	case g.kinds[name] != 0:
		return "", refused(h.Name, "it is there twice")
	}
	if root = g.rootOf(name); root == "" {
		return "", refused(h.Name, "it is not below any path of the snapshot")
	}
	for dir := name; dir != root; {
		dir = path.Dir(dir)
		if kind := g.kinds[dir]; kind != 0 && kind != tar.TypeDir {
			return "", refused(h.Name, "it is below %q, which is no folder", dir)
		}
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink:
	case tar.TypeLink:
		if g.kinds[h.Linkname] != tar.TypeReg || g.rootOf(h.Linkname) != root {
			return "", refused(h.Name, "it is a hard link to %q, which is no file before it below the same path", h.Linkname)
		}
		g.kinds[name] = tar.TypeReg
		return "/" + root, nil
	default:
		return "", refused(h.Name, "it is neither a file nor a folder nor a link")
	}
	g.kinds[name] = h.Typeflag
	return "/" + root, nil
}

// Seen reports whether an entry for an absolute path was admitted.
func (g *Gate) Seen(p string) bool { return g.kinds[strings.TrimPrefix(p, "/")] != 0 }

func (g *Gate) rootOf(name string) string {
	for dir := name; dir != "."; dir = path.Dir(dir) {
		if g.roots[dir] {
			return dir
		}
	}
	return ""
}

// cleaned is a relative name without empty, . and .. elements, or "" if it leads
// out or nowhere.
func cleaned(name string) string {
	c := path.Clean(name)
	if c == "." || c == ".." || strings.HasPrefix(c, "../") || strings.HasPrefix(c, "/") {
		return ""
	}
	return c
}

func refused(entry, format string, args ...any) error {
	f := fault.New(providerv1.ErrorReason_ERROR_REASON_FILE_REFUSED, format, args...).With("path", entry)
	f.Message = "refused entry " + quoted(entry) + ": " + f.Message
	return f
}

// Sink takes the entries of a layer, in their order: it returns where the content of
// an entry goes. The header is the sink's to change.
type Sink func(root string, h *tar.Header) (io.Writer, error)

// Discard is a Sink that keeps nothing.
func Discard(string, *tar.Header) (io.Writer, error) { return io.Discard, nil }

// Intake checks the entries of a layer and remembers what they are like.
type Intake struct {
	gate *Gate
	tree *Tree
}

// NewIntake returns an intake for entries below the given absolute paths.
func NewIntake(paths []string) *Intake { return &Intake{gate: NewGate(paths), tree: NewTree()} }

// Tree returns what was taken so far.
func (in *Intake) Tree() *Tree { return in.tree }

// Seen reports whether there was an entry of an absolute path itself.
func (in *Intake) Seen(p string) bool { return in.gate.Seen(p) }

// Take passes one entry on to the sink, or refuses it.
func (in *Intake) Take(h *tar.Header, body io.Reader, sink Sink) error {
	h = normal(h)
	root, err := in.gate.Admit(h)
	if err != nil {
		return err
	}
	own := *h
	w, err := sink(root, &own)
	if err != nil {
		return err
	}
	return in.tree.Add(h, body, w)
}

// normal is a header with what a layer keeps: no names of users, no fractions of a
// second, nothing that a provider adds of its own.
func normal(h *tar.Header) *tar.Header {
	out := &tar.Header{
		Typeflag: h.Typeflag, Name: strings.TrimSuffix(h.Name, "/"), Linkname: h.Linkname,
		Mode: h.Mode & 0o7777, Uid: h.Uid, Gid: h.Gid, ModTime: h.ModTime.Truncate(time.Second).UTC(), Format: tar.FormatPAX,
	}
	switch h.Typeflag {
	case tar.TypeReg:
		out.Size = h.Size
	case tar.TypeDir:
		out.Name += "/"
	case tar.TypeSymlink:
		out.Mode = 0o777
	}
	return out
}
