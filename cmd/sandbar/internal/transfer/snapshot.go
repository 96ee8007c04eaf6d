package transfer

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/portable"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Source is what is read of a sandbox.
type Source struct {
	Files   Files
	Sandbox *brokerv1.Sandbox
	// Paths are what somebody named; none: what the sandbox changed.
	Paths []string
	// Running is how many commands are under way in it, as far as is known.
	Running int
	// Said is told of each piece of content that was carried; it may be nil.
	Said func(n int)
}

// scope says which files come along.
func (s *Source) scope(ctx context.Context) (*Scope, error) {
	if len(s.Paths) > 0 {
		return Named(s.Paths)
	}
	return Changed(ctx, s.Files, s.Sandbox.GetSandboxId(), mounted(s.Sandbox))
}

// Save writes a portable snapshot at a name where nothing is, and returns what it
// says about itself, and the digest of its manifest.
func (s *Source) Save(ctx context.Context, name string, taken time.Time) (*portable.Snapshot, string, error) {
	if err := portable.Absent(name); err != nil {
		return nil, "", err
	}
	scope, err := s.scope(ctx)
	if err != nil {
		return nil, "", err
	}
	var snap *portable.Snapshot
	manifest, err := portable.Write(name, taken, scope.Paths, func(l *portable.Layer) (*portable.Snapshot, *portable.Tree, error) {
		read, err := scope.Read(ctx, s.Files, s.Sandbox.GetSandboxId(), counted(l.Take, s.Said))
		if err != nil {
			return nil, nil, err
		}
		snap, err = s.describe(scope, read)
		return snap, read.Tree, err
	})
	return snap, manifest, err
}

func (s *Source) describe(scope *Scope, read *Carried) (*portable.Snapshot, error) {
	sb := s.Sandbox
	snap := &portable.Snapshot{Source: portable.Source{SandboxID: sb.GetSandboxId(), Name: sb.GetName(), Provider: sb.GetProvider()}}
	req := Request(sb)
	dropped, err := strip(req, func(p part) (bool, error) { return p.foreign(req.GetSpec()), nil })
	if err != nil {
		return nil, err
	}
	if err := snap.Describe(req); err != nil {
		return nil, err
	}
	snap.Changes = scope.Changes
	snap.Left = append(portable.Never(s.Running), scope.Left...)
	snap.Left = append(append(snap.Left, read.Left()...), dropped...)
	if len(snap.Env) > 0 {
		snap.Left = append(snap.Left, portable.NewLeft("environment", "values of variables are never in a snapshot", snap.Env...))
	}
	return snap, nil
}

// counted is a sink whose content is counted.
func counted(sink portable.Sink, said func(int)) portable.Sink {
	if said == nil {
		return sink
	}
	return func(root string, h *tar.Header) (io.Writer, error) {
		w, err := sink(root, h)
		return &meter{w, said}, err
	}
}

type meter struct {
	io.Writer
	said func(int)
}

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.Writer.Write(p)
	m.said(n)
	return n, err
}

// Load unpacks a snapshot in a sandbox that was just made, and proves that all of it
// arrived. It returns what did not come along beyond what the snapshot says.
func Load(ctx context.Context, files Files, from *portable.Layout, sandbox string, said func(n int)) ([]portable.Left, error) {
	scope := &Scope{Paths: from.Snapshot.Paths, Changes: from.Snapshot.Changes}
	into := NewUnpacker(ctx, files, sandbox, scope, said)
	defer into.Abort()
	tree, err := from.Walk(ctx, into.Take)
	if err == nil {
		err = into.Close()
	}
	if err != nil {
		return nil, err
	}
	return scope.arrived(ctx, files, sandbox, tree)
}

// maxShown is how many differences an error names.
const maxShown = 3

// arrived reads back what was unpacked in a sandbox, and refuses anything but the
// same files. Owners and times may differ, which it returns.
func (s *Scope) arrived(ctx context.Context, files Files, sandbox string, want *portable.Tree) ([]portable.Left, error) {
	got, err := s.Read(ctx, files, sandbox, portable.Discard)
	if err != nil {
		return nil, err
	}
	if diff := want.Diff(got.Tree); len(diff) > 0 {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL, "sandbox %s has other files than those sent to it: %s",
			sandbox, shown(diff)).With("sandbox_id", sandbox).WithEffect(providerv1.Effect_EFFECT_APPLIED)
	}
	var left []portable.Left
	if n := want.Owners(got.Tree); n > 0 {
		left = append(left, portable.NewLeft("owners", fmt.Sprintf("%d files, folders and links have another owner than before", n)))
	}
	if n := want.Times(got.Tree); n > 0 {
		left = append(left, portable.NewLeft("times", fmt.Sprintf("%d files have another time of last change than before", n)))
	}
	return left, nil
}

func shown(diff []string) string {
	out := strings.Join(diff[:min(len(diff), maxShown)], ", ")
	if more := len(diff) - maxShown; more > 0 {
		out += fmt.Sprintf(", and %d more", more)
	}
	return out
}
