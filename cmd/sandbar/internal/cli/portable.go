package cli

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/portable"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/terminal"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/transfer"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/image"
)

type snapshotExportCmd struct {
	carryFlags
	Sandbox string `arg:"" help:"Id or name."`
	File    string `arg:"" type:"path" help:"File to write if its name ends with .tar, else folder; nothing may be there yet."`
}

// Help is shown below the flags.
func (*snapshotExportCmd) Help() string {
	return "Writes an OCI image layout with the sandbox's files, which `sandbar create --from FILE` makes a sandbox of on any provider. " +
		"Memory, processes and the values of variables are never in it; what else is not is said at the end. The sandbox goes on."
}

// Run writes a portable snapshot and prints the digest of its manifest.
func (c *snapshotExportCmd) Run(ctx context.Context, a *app) error {
	if err := portable.Need(c.keeps()); err != nil {
		return err
	}
	sb, err := a.getSandbox(ctx, c.Sandbox, false)
	if err != nil {
		return err
	}
	if err := a.canCarry(ctx, sb, "", len(c.Path) == 0); err != nil {
		return err
	}
	source, err := a.source(ctx, sb, c.Path)
	if err != nil {
		return err
	}
	said, done := a.carrying()
	source.Said = said
	snap, manifest, err := source.Save(ctx, c.File, a.now())
	done()
	if err != nil {
		return err
	}
	if a.JSON {
		return render.Value(a.stdout, snapshotJSON{File: c.File, Manifest: manifest, Snapshot: snap})
	}
	if err := a.out("%s", manifest); err != nil {
		return err
	}
	return stateTo(a.stderr, &snap.Statement)
}

// snapshotJSON is a portable snapshot under --json.
type snapshotJSON struct {
	File string `json:"file"`
	// Manifest and Layer are digests. Those of the layer are there once it was read.
	Manifest  string     `json:"manifest"`
	Layer     string     `json:"layer,omitempty"`
	LayerSize int64      `json:"layer_size,omitempty"`
	Taken     *time.Time `json:"taken,omitempty"`
	*portable.Snapshot
}

type snapshotInspectCmd struct {
	File string `arg:"" type:"path" help:"File or folder."`
}

// Run reads all of a portable snapshot and shows what it says.
func (c *snapshotInspectCmd) Run(ctx context.Context, a *app) error {
	l, err := a.whole(ctx, c.File)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	if a.JSON {
		return render.Value(a.stdout, snapshotJSON{File: c.File, Manifest: l.Manifest, Layer: l.Layer, LayerSize: l.LayerSize, Taken: &l.Taken, Snapshot: l.Snapshot})
	}
	req, err := l.Snapshot.Request()
	if err != nil {
		return err
	}
	if err := render.Table(a.stdout, []string{"manifest", l.Manifest}, [][]string{
		{"layer", l.Layer},
		{"taken", l.Taken.Local().Format(time.DateTime)},
		{"of", l.Snapshot.Source.SandboxID + " " + l.Snapshot.Source.Name},
		{"provider", l.Snapshot.Source.Provider},
		{"image", image.Text(req.GetSpec().GetImage())},
		{"labels", render.Pairs(req.GetLabels())},
	}); err != nil {
		return err
	}
	return stateTo(a.stdout, &l.Snapshot.Statement)
}

// whole opens a portable snapshot and checks every byte of it. The caller closes it.
func (a *app) whole(ctx context.Context, file string) (*portable.Layout, error) {
	defer a.progress("checking the snapshot")()
	l, err := portable.Open(file)
	if err != nil {
		return nil, err
	}
	if _, err := l.Walk(ctx, portable.Discard); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// createFrom makes a sandbox of a portable snapshot. Flags win over what it says.
func (a *app) createFrom(ctx context.Context, file string, flags *brokerv1.CreateSandboxRequest, dryRun bool) error {
	l, err := a.whole(ctx, file)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	req, err := l.Snapshot.Request()
	if err != nil {
		return err
	}
	override(req, flags)
	if dryRun {
		return a.plan(ctx, req)
	}
	if req.GetName() == "" {
		req.Name = "sb-" + randomID()[:10]
	}
	req.Labels[transfer.FromSnapshot] = l.Manifest
	sb, err := a.createOwned(ctx, req)
	if err != nil {
		return err
	}
	cl, err := a.connect(ctx)
	if err != nil {
		return err
	}
	said, done := a.carrying()
	left, err := transfer.Load(ctx, cl, l, sb.GetSandboxId(), said)
	done()
	if err != nil {
		a.removeOwned(ctx, sb.GetSandboxId())
		return err
	}
	return a.printLoaded(sb, l.Snapshot, req.GetSpec().GetEnv(), left)
}

// override merges what the flags say into what a snapshot says.
func override(req, flags *brokerv1.CreateSandboxRequest) {
	if flags.GetSpec().GetImage() != nil && req.GetSpec() != nil {
		req.Spec.Image = nil // one is not merged into another
	}
	if flags.GetLifetime() != nil {
		req.Lifetime = nil
	}
	if flags.GetIdle() != nil {
		req.Idle = nil
	}
	proto.Merge(req, flags)
	if req.Spec == nil {
		req.Spec = &providerv1.SandboxSpec{}
	}
	if req.Labels == nil {
		req.Labels = map[string]string{}
	}
}

// printLoaded prints the sandbox, and says which variables of the snapshot it lacks.
func (a *app) printLoaded(sb *brokerv1.Sandbox, snap *portable.Snapshot, env map[string]string, left []portable.Left) error {
	var missing []string
	for _, name := range snap.Env {
		if _, ok := env[name]; !ok {
			missing = append(missing, name)
		}
	}
	for _, l := range snap.Left {
		if l.What != "environment" {
			left = append(left, l)
		}
	}
	if len(missing) > 0 {
		left = append(left, portable.NewLeft("environment", "the sandbox lacks variables that the first one had; --env sets them", missing...))
	}
	statement := snap.Statement
	statement.Left = left
	if a.JSON {
		raw, err := render.Raw(sb)
		if err != nil {
			return err
		}
		return render.Value(a.stdout, movedJSON{Sandbox: raw, Source: sourceJSON{Source: snap.Source}, Statement: statement})
	}
	if err := a.out("%s", sb.GetSandboxId()); err != nil {
		return err
	}
	return stateTo(a.stderr, &statement)
}

// carryEvery is how often a terminal is told how much was carried.
const carryEvery = 500 * time.Millisecond

// carrying shows on a terminal how much was carried. The returned functions count,
// and take the line away.
func (a *app) carrying() (said func(n int), done func()) {
	var sum atomic.Int64
	said = func(n int) { sum.Add(int64(n)) }
	if !terminal.Is(a.stderr) || a.JSON {
		return said, func() {}
	}
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(carryEvery)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				fmt.Fprint(a.stderr, "\r\x1b[K")
				return
			case <-tick.C:
				if n := sum.Load(); n > 0 { // until then somebody else has the line
					fmt.Fprintf(a.stderr, "\r\x1b[Ksandbar: carrying files, %s…", render.Bytes(n))
				}
			}
		}
	})
	return said, func() { close(ended); wg.Wait() }
}
