package union

import (
	"slices"
	"strings"

	"github.com/sandbar-dev/sandbar/plugins/local/erofs"
)

// maxPath is Linux's PATH_MAX without its zero.
const maxPath = 4095

// split cuts a name of a layer into clean components; none means the root.
func split(name string) ([]string, error) {
	if len(name) > maxPath {
		return nil, problemf("name has %d bytes, Linux allows %d", len(name), maxPath)
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
		case part == "..":
			if len(parts) == 0 {
				return nil, problemf("name climbs out of the image")
			}
			parts = parts[:len(parts)-1]
		case len(part) > erofs.MaxName:
			return nil, problemf("name component has %d bytes, Linux allows %d", len(part), erofs.MaxName)
		default:
			parts = append(parts, part)
		}
	}
	return parts, nil
}

// walk follows a path of directories from the root, through symbolic links as
// a process inside the image would. With create, what is missing or is no
// directory becomes one and all on the way counts as part of this layer; without,
// the result is nil then.
func (t *Tree) walk(parts []string, create bool) (*node, error) {
	stack, links := []*node{t.root}, 0
	pending := slices.Clone(parts)
	slices.Reverse(pending) // the next component is the last
	for len(pending) > 0 {
		part := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		dir := stack[len(stack)-1]
		child := dir.children[part]
		switch {
		case part == "" || part == ".":
		case part == "..":
			stack = stack[:max(1, len(stack)-1)]
		case child != nil && child.isDir():
			stack = append(stack, child)
		case child != nil && child.isSymlink():
			if links++; links > maxLinks {
				return nil, problemf("path has more than %d symbolic links", maxLinks)
			}
			target := child.file.inode.Target
			if strings.HasPrefix(target, "/") {
				stack = stack[:1]
			}
			next := strings.Split(target, "/")
			slices.Reverse(next)
			pending = append(pending, next...)
		case !create:
			return nil, nil
		default:
			made := newDirectory()
			if err := t.put(dir, part, made); err != nil {
				return nil, err
			}
			stack = append(stack, made)
		}
		if len(stack) > maxDepth {
			return nil, problemf("directories are nested more than %d deep", maxDepth)
		}
	}
	if create {
		for _, n := range stack {
			n.seen = t.layer
		}
	}
	return stack[len(stack)-1], nil
}

// find returns the node a hard link names: parents are followed, the last
// component is not. It is nil if there is none.
func (t *Tree) find(parts []string) (*node, error) {
	if len(parts) == 0 {
		return t.root, nil
	}
	dir, err := t.walk(parts[:len(parts)-1], false)
	if dir == nil || err != nil {
		return nil, err
	}
	return dir.children[parts[len(parts)-1]], nil
}
