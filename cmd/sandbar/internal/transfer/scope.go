package transfer

import (
	"context"
	"path"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/portable"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Scope says which files of a sandbox come along.
type Scope struct {
	// Paths are absolute and sorted, none below another.
	Paths []string
	// Changes is set if the provider said that these are what the sandbox changed.
	Changes bool
	// Left is what the sandbox changed and cannot be carried.
	Left []portable.Left
}

// Named is a scope of paths that somebody named, which must be absolute.
func Named(paths []string) (*Scope, error) {
	s := &Scope{Left: []portable.Left{
		portable.NewLeft("elsewhere", "files outside of the paths that were named stay behind"),
	}}
	for _, p := range paths {
		clean := path.Clean(p)
		if err := portable.CheckPath(clean); err != nil {
			return nil, fault.Field("path", p, err.Error())
		}
		s.Paths = append(s.Paths, clean)
	}
	s.Paths = outermost(s.Paths)
	return s, nil
}

// outermost sorts paths and drops those below others.
func outermost(paths []string) []string {
	slices.Sort(paths)
	have := map[string]bool{}
	for _, p := range paths {
		have[p] = true
	}
	return slices.Compact(slices.DeleteFunc(paths, func(p string) bool { return covered(have, p) }))
}

// covered reports whether a folder above a path is in a set.
func covered(set map[string]bool, p string) bool {
	for dir := path.Dir(p); dir != "/"; dir = path.Dir(dir) {
		if set[dir] {
			return true
		}
	}
	return false
}

// Changed is a scope of what a sandbox changed on its root file system, by the word
// of its provider. mounts are where other file systems are, which are no part of it.
func Changed(ctx context.Context, files Files, sandbox string, mounts []string) (*Scope, error) {
	stream, err := files.DiffFiles(ctx, connect.NewRequest(&providerv1.DiffFilesRequest{Sandbox: ref(sandbox)}))
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Close() }()
	c := &changes{mounts: mounts, whole: map[string]bool{}}
	for stream.Receive() {
		for _, ch := range stream.Msg().GetChanges() {
			c.add(ch)
		}
	}
	if err := stream.Err(); err != nil {
		return nil, err
	}
	return c.scope(), nil
}

// changes sorts what a provider says has changed.
type changes struct {
	mounts []string
	// whole are folders that are new, and so come along with all that is in them.
	whole                             map[string]bool
	paths                             []string
	deleted, folders, special, unsaid []string
}

func (c *changes) add(ch *providerv1.FileChange) {
	p, info := ch.GetPath(), ch.GetInfo()
	folder := info.GetType() == providerv1.FileType_FILE_TYPE_DIRECTORY
	switch {
	case ch.GetKind() == providerv1.FileChangeKind_FILE_CHANGE_KIND_DELETED:
		c.deleted = append(c.deleted, p)
	case folder && ch.GetKind() == providerv1.FileChangeKind_FILE_CHANGE_KIND_ADDED && !c.holdsMount(p):
		c.whole[p] = true
		c.paths = append(c.paths, p)
	case folder:
		c.folders = append(c.folders, p)
	case info.GetType() == providerv1.FileType_FILE_TYPE_OTHER:
		c.special = append(c.special, p)
	case len(info.GetNameBytes()) > 0 || strings.ContainsRune(p, '\uFFFD'):
		c.unsaid = append(c.unsaid, p)
	default:
		c.paths = append(c.paths, p)
	}
}

func (c *changes) holdsMount(dir string) bool {
	return slices.ContainsFunc(c.mounts, func(m string) bool { return strings.HasPrefix(m, dir+"/") })
}

func (c *changes) scope() *Scope {
	s := &Scope{Changes: true}
	// What is in a new folder comes along with it, or is said by who reads it.
	inside := func(p string) bool { return covered(c.whole, p) }
	for _, p := range c.paths {
		if portable.CheckPath(p) == nil && !inside(p) {
			s.Paths = append(s.Paths, p)
		}
	}
	slices.Sort(s.Paths)
	s.Paths = slices.Compact(s.Paths)
	for _, l := range []struct {
		what, why string
		names     []string
	}{
		{"deleted", "files of the image that the sandbox deleted are there again", c.deleted},
		{"folders", "folders of the image whose owner or mode changed have those of the image again", c.folders},
		{"special", "sockets, pipes and devices stay behind", slices.DeleteFunc(c.special, inside)},
		{"names", "files stay behind whose names are not UTF-8, outside of new folders", slices.DeleteFunc(c.unsaid, inside)},
	} {
		if len(l.names) > 0 {
			slices.Sort(l.names)
			s.Left = append(s.Left, portable.NewLeft(l.what, l.why, l.names...))
		}
	}
	return s
}

// same refuses a scope that is another one by now.
func (s *Scope) same(now *Scope) error {
	if slices.Equal(s.Paths, now.Paths) {
		return nil
	}
	for _, p := range append(slices.Clone(s.Paths), now.Paths...) {
		if !slices.Contains(s.Paths, p) || !slices.Contains(now.Paths, p) {
			return stirred(strconv.Quote(p))
		}
	}
	return stirred("the sandbox's files")
}

// target is the folder that a path is unpacked in. Paths that somebody named may lead
// through links, which the target resolves as the source did; what a provider says
// has changed does not.
func (s *Scope) target(root string) string {
	if s.Changes {
		return "/"
	}
	return path.Dir(root)
}

// stirred says that files changed while they were carried.
func stirred(what string) error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_OBJECT_IN_USE,
		"%s changed while the files were carried; let what writes there end and try again, or keep the source", what).
		WithEffect(providerv1.Effect_EFFECT_NONE)
}

func ref(sandbox string) *providerv1.SandboxRef { return &providerv1.SandboxRef{SandboxId: sandbox} }
