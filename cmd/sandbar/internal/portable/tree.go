package portable

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Tree is what some files are like: enough to tell whether others are the same. It
// takes some 200 bytes of memory for each entry.
type Tree struct {
	entries map[string]record
	count   Count
}

type record struct {
	kind byte
	mode int64
	size int64
	// sum is of a file's content, or of what a symbolic link says.
	sum      [sha256.Size]byte
	uid, gid int
	// at is the time of the last change, in seconds.
	at int64
}

// NewTree returns a tree without entries.
func NewTree() *Tree { return &Tree{entries: map[string]record{}} }

// Add takes in an entry that a Gate has admitted, and copies its content to w.
func (t *Tree) Add(h *tar.Header, body io.Reader, w io.Writer) error {
	name := strings.TrimSuffix(h.Name, "/")
	r := record{kind: h.Typeflag, mode: h.Mode & 0o7777, uid: h.Uid, gid: h.Gid, at: h.ModTime.Unix()}
	switch h.Typeflag {
	case tar.TypeReg:
		sum := sha256.New()
		n, err := io.Copy(io.MultiWriter(sum, w), body)
		if err != nil {
			return err
		}
		r.size = n
		sum.Sum(r.sum[:0])
		t.count.Files++
		t.count.Bytes += n
	case tar.TypeLink:
		// Which name of a file comes first is the provider's choice.
		r = t.entries[h.Linkname]
		t.count.Files++
	case tar.TypeSymlink:
		r.mode, r.sum = 0, sha256.Sum256([]byte(h.Linkname))
		t.count.Links++
	default:
		t.count.Folders++
	}
	t.entries[name] = r
	return nil
}

// Count returns what was added.
func (t *Tree) Count() Count { return t.count }

// Digest returns a digest of all names, kinds, modes and content.
func (t *Tree) Digest() string {
	sum := sha256.New()
	var line []byte
	for _, name := range slices.Sorted(maps.Keys(t.entries)) {
		r := t.entries[name]
		line = append(line[:0], name...)
		line = append(line, 0, r.kind)
		line = binary.BigEndian.AppendUint64(line, uint64(r.mode))
		line = binary.BigEndian.AppendUint64(line, uint64(r.size))
		line = append(line, r.sum[:]...)
		sum.Write(line)
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil))
}

// Diff returns the names at which two trees differ in kind, mode or content, sorted,
// each with how.
func (t *Tree) Diff(other *Tree) []string {
	var out []string
	for name, r := range t.entries {
		if why := r.differs(other.entries, name); why != "" {
			out = append(out, quoted("/"+name)+" "+why)
		}
	}
	for name := range other.entries {
		if _, ok := t.entries[name]; !ok {
			out = append(out, quoted("/"+name)+" is too many")
		}
	}
	slices.Sort(out)
	return out
}

func (r record) differs(others map[string]record, name string) string {
	o, ok := others[name]
	switch {
	case !ok:
		return "is missing"
	case o.kind != r.kind:
		return "is of another kind"
	case o.mode != r.mode:
		return fmt.Sprintf("has mode %o instead of %o", o.mode, r.mode)
	case o.size != r.size || o.sum != r.sum:
		return "has other content"
	}
	return ""
}

// Owners and Times return how many entries that both trees have differ in owner, and
// in the time of their last change. Times of folders and links do not count: few
// providers can set them.
func (t *Tree) Owners(other *Tree) int {
	return t.differing(other, func(a, b record) bool { return a.uid != b.uid || a.gid != b.gid })
}

// Times is described with Owners.
func (t *Tree) Times(other *Tree) int {
	return t.differing(other, func(a, b record) bool { return a.kind == tar.TypeReg && a.at != b.at })
}

func (t *Tree) differing(other *Tree, differ func(a, b record) bool) int {
	n := 0
	for name, r := range t.entries {
		if o, ok := other.entries[name]; ok && differ(r, o) {
			n++
		}
	}
	return n
}

func quoted(name string) string { return strconv.Quote(name) }
