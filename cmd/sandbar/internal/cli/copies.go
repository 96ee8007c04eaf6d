package cli

import (
	"context"
	"errors"
	"strconv"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/value"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

type forkCmd struct {
	keepFlags
	Count   int32    `short:"n" default:"1" help:"How many copies, 1 to 64." placeholder:"N"`
	Label   []string `short:"l" sep:"none" help:"Label of the copies." placeholder:"NAME=VALUE"`
	Sandbox string   `arg:"" help:"Id or name."`
}

// Run makes copies of a running sandbox: all or none.
func (c *forkCmd) Run(ctx context.Context, a *app) error {
	if c.Count < 1 || c.Count > 64 {
		return badFlag("count", strconv.Itoa(int(c.Count)), "is not a number of copies; write one from 1 to 64")
	}
	labels, err := value.Labels(c.Label)
	if err != nil {
		return &usageError{message: "--label: " + err.Error()}
	}
	req := &brokerv1.ForkSandboxRequest{
		Sandbox: c.Sandbox, Count: c.Count, Minimum: c.keeps(), Labels: labels, IdempotencyKey: randomID(),
	}
	done := a.progress("forking the sandbox")
	copies, err := steady(ctx, a, longCall, func(ctx context.Context, cl *client.Client) ([]*brokerv1.Sandbox, error) {
		res, err := cl.ForkSandbox(ctx, request(req))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetSandboxes(), nil
	})
	done()
	if err != nil {
		return err
	}
	return a.printSandboxes(copies, false)
}

type snapshotCmd struct {
	Create  snapshotCreateCmd  `cmd:"" help:"Take a snapshot of a sandbox."`
	Ls      snapshotLsCmd      `cmd:"" aliases:"list" help:"List snapshots."`
	Rm      snapshotRmCmd      `cmd:"" help:"Remove snapshots."`
	Export  snapshotExportCmd  `cmd:"" help:"Write a sandbox's files to a portable snapshot, a file or folder of this machine."`
	Inspect snapshotInspectCmd `cmd:"" help:"Check a portable snapshot and show what is in it, and what is not."`
}

type snapshotCreateCmd struct {
	keepFlags
	Name    string   `help:"Name of the snapshot." placeholder:"NAME"`
	Label   []string `short:"l" sep:"none" help:"Label." placeholder:"NAME=VALUE"`
	Sandbox string   `arg:"" help:"Id or name."`
}

// Run takes a snapshot and prints its id.
func (c *snapshotCreateCmd) Run(ctx context.Context, a *app) error {
	labels, err := value.Labels(c.Label)
	if err != nil {
		return &usageError{message: "--label: " + err.Error()}
	}
	req := &brokerv1.CreateSnapshotRequest{
		Sandbox: c.Sandbox, Name: c.Name, Minimum: c.keeps(), Labels: labels, IdempotencyKey: randomID(),
	}
	done := a.progress("taking the snapshot")
	snap, err := steady(ctx, a, longCall, func(ctx context.Context, cl *client.Client) (*brokerv1.Snapshot, error) {
		res, err := cl.CreateSnapshot(ctx, request(req))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetSnapshot(), nil
	})
	done()
	if err != nil {
		return err
	}
	if a.JSON {
		return render.Message(a.stdout, snap)
	}
	return a.out("%s", snap.GetSnapshotId())
}

type snapshotLsCmd struct {
	Sandbox string `help:"Only of this sandbox, by id." placeholder:"ID"`
}

// Run lists snapshots.
func (c *snapshotLsCmd) Run(ctx context.Context, a *app) error {
	var all []*brokerv1.Snapshot
	req := &brokerv1.ListSnapshotsRequest{SandboxId: c.Sandbox, PageSize: listPage}
	for {
		page, err := steady(ctx, a, quickCall, func(ctx context.Context, cl *client.Client) (*brokerv1.ListSnapshotsResponse, error) {
			res, err := cl.ListSnapshots(ctx, request(req))
			if err != nil {
				return nil, err
			}
			return res.Msg, nil
		})
		if err != nil {
			return err
		}
		all = append(all, page.GetSnapshots()...)
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if a.JSON {
		return render.Messages(a.stdout, all)
	}
	rows := make([][]string, 0, len(all))
	for _, s := range all {
		size := ""
		if s.SizeBytes != nil {
			size = render.Bytes(s.GetSizeBytes())
		}
		rows = append(rows, []string{
			s.GetSnapshotId(), s.GetName(), s.GetProvider(), render.Enum(s.GetState(), "SNAPSHOT_STATE_"), s.GetSandboxId(), keptText(s.GetKept()), size,
			render.Ago(a.now(), s.GetCreatedAt()),
		})
	}
	return render.Table(a.stdout, []string{"ID", "NAME", "PROVIDER", "STATE", "SANDBOX", "KEPT", "SIZE", "CREATED"}, rows)
}

type snapshotRmCmd struct {
	Snapshot []string `arg:"" help:"Ids or names."`
}

// Run removes snapshots; removing an absent one is a success.
func (c *snapshotRmCmd) Run(ctx context.Context, a *app) error {
	return a.removeEach("snapshot", c.Snapshot, func(name string) (bool, error) {
		res, err := steady(ctx, a, quickCall, func(ctx context.Context, cl *client.Client) (*brokerv1.DeleteSnapshotResponse, error) {
			res, err := cl.DeleteSnapshot(ctx, request(&brokerv1.DeleteSnapshotRequest{Snapshot: name}))
			if err != nil {
				return nil, err
			}
			return res.Msg, nil
		})
		return res.GetAlreadyAbsent(), err
	})
}

// removed is what became of one thing that was to be removed, under --json.
type removed struct {
	Name          string `json:"name"`
	AlreadyAbsent bool   `json:"already_absent"`
}

// removeEach goes on after a failure and says what is gone, and what was not
// there: a name that was mistyped must not look like one that was removed.
func (a *app) removeEach(what string, names []string, remove func(string) (absent bool, err error)) error {
	gone, errs := []removed{}, []error(nil)
	for _, name := range names {
		absent, err := remove(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		gone = append(gone, removed{name, absent})
		if a.JSON {
			continue
		}
		if absent {
			a.warn("%s %q does not exist", what, name)
			continue
		}
		if err := a.out("%s", name); err != nil {
			return err
		}
	}
	if a.JSON {
		errs = append(errs, render.Value(a.stdout, gone))
	}
	return errors.Join(errs...)
}

type restoreCmd struct {
	keepFlags
	lifeFlags
	Name     string   `help:"Name of the new sandbox." placeholder:"NAME"`
	Label    []string `short:"l" sep:"none" help:"Label." placeholder:"NAME=VALUE"`
	Snapshot string   `arg:"" help:"Id or name of the snapshot."`
}

// Run makes a sandbox from a snapshot and prints its id.
func (c *restoreCmd) Run(ctx context.Context, a *app) error {
	labels, err := value.Labels(c.Label)
	if err != nil {
		return &usageError{message: "--label: " + err.Error()}
	}
	req := &brokerv1.RestoreSnapshotRequest{
		Snapshot: c.Snapshot, Name: c.Name, Minimum: c.keeps(), Labels: labels,
		Lifetime: c.lifetime(), Idle: c.idle(), IdempotencyKey: randomID(),
	}
	done := a.progress("restoring the snapshot")
	sb, err := steady(ctx, a, longCall, func(ctx context.Context, cl *client.Client) (*brokerv1.Sandbox, error) {
		res, err := cl.RestoreSnapshot(ctx, request(req))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetSandbox(), nil
	})
	done()
	if err != nil {
		return err
	}
	return a.printSandboxes([]*brokerv1.Sandbox{sb}, true)
}

type volumeCmd struct {
	Create volumeCreateCmd `cmd:"" help:"Create a volume."`
	Ls     volumeLsCmd     `cmd:"" aliases:"list" help:"List volumes."`
	Rm     volumeRmCmd     `cmd:"" help:"Remove volumes."`
}

type volumeCreateCmd struct {
	Provider string   `help:"Provider to make it on." placeholder:"NAME"`
	Label    []string `short:"l" sep:"none" help:"Label." placeholder:"NAME=VALUE"`
	Name     string   `arg:"" help:"Name of the volume."`
}

// Run creates a volume.
func (c *volumeCreateCmd) Run(ctx context.Context, a *app) error {
	labels, err := value.Labels(c.Label)
	if err != nil {
		return &usageError{message: "--label: " + err.Error()}
	}
	cl, err := a.connect(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, quickCall)
	defer cancel()
	res, err := cl.CreateVolume(ctx, request(&brokerv1.CreateVolumeRequest{Name: c.Name, Provider: c.Provider, Labels: labels}))
	if err != nil {
		return err
	}
	if a.JSON {
		return render.Message(a.stdout, res.Msg.GetVolume())
	}
	return a.out("%s", res.Msg.GetVolume().GetVolume().GetName())
}

type volumeLsCmd struct {
	Provider string `help:"Only on this provider." placeholder:"NAME"`
}

// Run lists volumes, and says which providers could not be asked.
func (c *volumeLsCmd) Run(ctx context.Context, a *app) error {
	res, err := steady(ctx, a, quickCall, func(ctx context.Context, cl *client.Client) (*brokerv1.ListVolumesResponse, error) {
		res, err := cl.ListVolumes(ctx, request(&brokerv1.ListVolumesRequest{Provider: c.Provider}))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	})
	if err != nil {
		return err
	}
	for name, why := range res.GetUnreachable() {
		a.warn("provider %s could not be asked: %s", name, oneLine(why))
	}
	if a.JSON {
		return render.Messages(a.stdout, res.GetVolumes())
	}
	rows := make([][]string, 0, len(res.GetVolumes()))
	for _, v := range res.GetVolumes() {
		used := ""
		if v.GetVolume().UsedBytes != nil {
			used = render.Bytes(v.GetVolume().GetUsedBytes())
		}
		rows = append(rows, []string{
			v.GetVolume().GetName(), v.GetProvider(), used, render.Ago(a.now(), v.GetVolume().GetCreatedAt()), render.Pairs(v.GetVolume().GetLabels()),
		})
	}
	return render.Table(a.stdout, []string{"NAME", "PROVIDER", "USED", "CREATED", "LABELS"}, rows)
}

type volumeRmCmd struct {
	Provider string   `help:"Provider it is on." placeholder:"NAME"`
	Name     []string `arg:"" help:"Names."`
}

// Run removes volumes; removing an absent one is a success.
func (c *volumeRmCmd) Run(ctx context.Context, a *app) error {
	return a.removeEach("volume", c.Name, func(name string) (bool, error) {
		res, err := steady(ctx, a, quickCall, func(ctx context.Context, cl *client.Client) (*brokerv1.DeleteVolumeResponse, error) {
			res, err := cl.DeleteVolume(ctx, request(&brokerv1.DeleteVolumeRequest{Name: name, Provider: c.Provider}))
			if err != nil {
				return nil, err
			}
			return res.Msg, nil
		})
		return res.GetAlreadyAbsent(), err
	})
}
