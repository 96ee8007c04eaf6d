package union_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/plugins/local/erofs"
	"github.com/sandbar-dev/sandbar/plugins/local/image/union"
)

// model is a tree as a flat map: a path, and what a reader sees there. It
// follows the OCI text directly: what a layer hides goes first, then its entries
// come in order.
type model map[string]string

// apply returns false if the layer is invalid.
func (m model) apply(layer []tar.Header) bool {
	for _, h := range layer {
		dir, base := path.Split(h.Name)
		switch {
		case base == ".wh..wh..opq":
			m.removeBelow(strings.TrimSuffix(dir, "/"))
		case strings.HasPrefix(base, ".wh."):
			m.remove(dir + base[len(".wh."):])
		}
	}
	for _, h := range layer {
		if strings.HasPrefix(path.Base(h.Name), ".wh.") {
			continue
		}
		value := ""
		switch h.Typeflag {
		case tar.TypeLink:
			value = m[h.Linkname]
			if value == "" || strings.HasPrefix(value, "dir") {
				return false
			}
		case tar.TypeReg:
			value = fmt.Sprintf("file %o %s", h.Mode, h.Linkname)
		case tar.TypeSymlink:
			value = "link " + h.Linkname
		case tar.TypeDir:
			value = fmt.Sprintf("dir %o", h.Mode)
		}
		for parent := path.Dir(h.Name); parent != "."; parent = path.Dir(parent) {
			if !strings.HasPrefix(m[parent], "dir") {
				m[parent] = "dir 755"
			}
		}
		if h.Typeflag != tar.TypeDir {
			m.removeBelow(h.Name)
		}
		m[h.Name] = value
	}
	return true
}

func (m model) remove(name string) {
	delete(m, name)
	m.removeBelow(name)
}

func (m model) removeBelow(name string) {
	prefix := name + "/"
	if name == "" {
		prefix = ""
	}
	maps.DeleteFunc(m, func(k, _ string) bool { return strings.HasPrefix(k, prefix) })
}

func observe(i *erofs.Inode, at string, sink *memory, out model) {
	for _, e := range i.Entries {
		name := path.Join(at, e.Name)
		mode := e.Inode.Mode & 0o7777
		switch e.Inode.Mode & erofs.TypeMask {
		case erofs.TypeDir:
			out[name] = fmt.Sprintf("dir %o", mode)
			observe(e.Inode, name, sink, out)
		case erofs.TypeSymlink:
			out[name] = "link " + e.Inode.Target
		default:
			out[name] = fmt.Sprintf("file %o %s", mode, sink.content[e.Inode.Data.Block])
		}
	}
}

// layerOf draws a layer. Few names make collisions common. Symbolic links lead
// nowhere and are no parents: the model has no rule for following them.
func layerOf(rt *rapid.T, number int) []tar.Header {
	component := rapid.SampledFrom([]string{"a", "b", "c"})
	name := rapid.Custom(func(rt *rapid.T) string {
		return strings.Join(rapid.SliceOfN(component, 1, 4).Draw(rt, "parts"), "/")
	})
	var hidden, shown []tar.Header
	links := false
	for n := range rapid.IntRange(0, 8).Draw(rt, "entries") {
		h := tar.Header{Name: name.Draw(rt, "name"), Mode: int64(rapid.SampledFrom([]int{0o700, 0o4755, 0o1777}).Draw(rt, "mode"))}
		switch rapid.SampledFrom([]string{"file", "file", "dir", "symlink", "link", "whiteout", "opaque"}).Draw(rt, "kind") {
		case "file":
			h.Typeflag, h.Linkname = tar.TypeReg, fmt.Sprintf("content %d.%d", number, n)
		case "dir":
			h.Typeflag = tar.TypeDir
		case "symlink":
			// A leaf of its own kind of name, so that it never is a parent.
			h.Typeflag, h.Linkname, h.Name = tar.TypeSymlink, "nowhere", h.Name+"/s"
		case "link":
			h.Typeflag, h.Linkname, links = tar.TypeLink, name.Draw(rt, "target"), true
		case "whiteout":
			h = tar.Header{Name: path.Join(path.Dir(h.Name), ".wh."+path.Base(h.Name)), Typeflag: tar.TypeReg}
		case "opaque":
			h = tar.Header{Name: h.Name + "/.wh..wh..opq", Typeflag: tar.TypeReg}
		}
		if h.Typeflag == tar.TypeReg && h.Linkname == "" {
			hidden = append(hidden, h)
		} else {
			shown = append(shown, h)
		}
	}
	layer := slices.Concat(hidden, shown)
	if !links {
		// A layer means the same wherever its whiteouts stand, except that a hard
		// link to something lower must come before its whiteout. The order of
		// the entries among themselves stays.
		at := 0
		for i := range layer {
			if len(hidden) > 0 && (at == len(shown) || rapid.Bool().Draw(rt, "whiteout first")) {
				layer[i], hidden = hidden[0], hidden[1:]
			} else if at < len(shown) {
				layer[i] = shown[at]
				at++
			}
		}
	}
	return layer
}

// Any layers give the tree that the text of the OCI specification describes.
func TestTreeIsTheModels(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		want, sink := model{}, newMemory()
		tree := union.New(sink, union.Limits{})
		for n := range rapid.IntRange(1, 5).Draw(rt, "layers") {
			layer := layerOf(rt, n)
			err := tree.Apply(t.Context(), bytes.NewReader(archive(t, layer...)))
			if valid := want.apply(layer); valid != (err == nil) {
				rt.Fatalf("layer %v: valid is %v, error %v", names(layer), valid, err)
			}
			if err != nil {
				return
			}
		}
		got := model{}
		observe(tree.Root(), "", sink, got)
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatalf("tree (-want +got):\n%s", diff)
		}
		live := map[string]bool{}
		for _, v := range got {
			live[v] = true
		}
		for _, content := range sink.content {
			if !slices.ContainsFunc(slices.Collect(maps.Keys(live)), func(v string) bool { return strings.HasSuffix(v, content) }) {
				rt.Fatalf("the sink keeps %q, which no file has", content)
			}
		}
	})
}

func names(layer []tar.Header) []string {
	var all []string
	for _, h := range layer {
		all = append(all, fmt.Sprintf("%c %s %s", h.Typeflag, h.Name, h.Linkname))
	}
	return all
}
