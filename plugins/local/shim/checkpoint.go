package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// PauseSandbox implements sdk.Pauser: the guest and the table of its commands go
// to the folder "checkpoint", then the record says PAUSED, then the shim ends.
// Killed before the record is written, the sandbox is lost and says so; killed
// after, it is paused.
func (g *guest) PauseSandbox(ctx context.Context, _ *providerv1.PauseSandboxRequest) (*providerv1.Sandbox, error) {
	ctx, cancel := unhurried(ctx)
	defer cancel()
	g.saving.Lock()
	defer g.saving.Unlock()
	if sb := g.life.sandbox(); sb.GetState() == providerv1.SandboxState_SANDBOX_STATE_PAUSED {
		return sb, nil
	}
	dir := CheckpointDir(g.life.dir)
	// What a resume left behind when its shim was killed.
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("remove old checkpoint: %w", err)
	}
	g.life.pausing.Store(true)
	var usage *providerv1.Usage
	err := g.checkpoint(ctx, dir, false, func() (err error) {
		usage, err = g.finalUsage(ctx)
		return err
	})
	if err != nil {
		g.life.pausing.Store(false)
		select {
		case <-g.sb.Done():
			g.life.end(endGuest)
		default:
		}
		return nil, err
	}
	err = g.life.paused(usage)
	if err != nil {
		// The guest is gone and nobody will find its checkpoint.
		g.life.end(endGuest)
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_STATE_LOST, "write record of paused sandbox: %w", err)
	}
	g.execs.Detach(paused(g.id))
	g.life.end(endPaused)
	return g.life.sandbox(), nil
}

// Everything is what a checkpoint keeps.
func Everything() *providerv1.Keeps {
	return &providerv1.Keeps{Disk: true, Memory: true, Processes: true}
}

func paused(id string) *fault.Error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING, "sandbox %q was paused", id).
		With("sandbox_id", id).With("state", "PAUSED")
}

// saveBudget bounds a checkpoint, however large the guest is.
const saveBudget = 2 * time.Minute

// unhurried returns a context that does not end with its caller: a checkpoint
// that is cut in the middle would be the worst of all outcomes.
func unhurried(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), saveBudget)
}

// CreateSnapshot implements sdk.Snapshotter: the guest is saved beside the
// sandboxes, under the snapshot's id, and goes on.
func (g *guest) CreateSnapshot(ctx context.Context, req *providerv1.CreateSnapshotRequest) (*providerv1.Snapshot, error) {
	ctx, cancel := unhurried(ctx)
	defer cancel()
	g.saving.Lock()
	defer g.saving.Unlock()
	dir := filepath.Join(filepath.Dir(filepath.Dir(g.life.dir)), "snapshots", req.GetSnapshotId())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make snapshot folder: %w", err)
	}
	// What an attempt left behind whose answer nobody waited for.
	if err := os.RemoveAll(CheckpointDir(dir)); err != nil {
		return nil, fmt.Errorf("remove old checkpoint: %w", err)
	}
	if err := g.checkpoint(ctx, CheckpointDir(dir), true, nil); err != nil {
		return nil, err
	}
	return &providerv1.Snapshot{SnapshotId: req.GetSnapshotId(), SandboxId: g.id, Kept: Everything()}, nil
}

// checkpoint saves the guest and, while it stands still, what is known of its
// commands: not a byte is on its way between the two then. measure, if there is
// one, is called meanwhile.
func (g *guest) checkpoint(ctx context.Context, dir string, keepRunning bool, measure func() error) error {
	err := g.sb.Checkpoint(ctx, dir, keepRunning, func() error {
		if err := g.execs.Freeze(ctx); err != nil {
			return err
		}
		data, err := g.execs.Export()
		if err == nil && measure != nil {
			err = measure()
		}
		if err != nil {
			g.execs.Thaw()
			return err
		}
		return errors.Join(keepAgent(g.life.dir, dir), os.WriteFile(filepath.Join(dir, execsName), data, 0o600))
	})
	if keepRunning || err != nil {
		g.execs.Thaw()
	}
	if err != nil {
		return endedOr(err)
	}
	return nil
}

// restore makes a guest from a checkpoint and takes up its commands, which are
// this sandbox's from now on.
func restore(ctx context.Context, cfg runsc.Config, l *life, table *exec.Table, dir string) (*runsc.Sandbox, error) {
	data, err := os.ReadFile(filepath.Join(dir, execsName))
	if err != nil {
		return nil, fmt.Errorf("read commands of checkpoint: %w", err)
	}
	sb, err := runsc.Restore(ctx, cfg, dir)
	if errors.Is(err, runsc.ErrIncompatible) {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE,
			"this state was saved by another build of the local provider: %w", err)
	}
	if err != nil {
		return nil, err
	}
	err = table.Import(data, l.rec.Sandbox.GetIdentity().GetSandboxId(), func(key exec.Key, _ *providerv1.ExecSpec) (sdk.Process, error) {
		ex, err := sb.Exec(key.Exec)
		if err != nil {
			return nil, err
		}
		return &process{ex: ex, over: l.over}, nil
	})
	if err != nil {
		return nil, errors.Join(err, sb.Close(ctx))
	}
	return sb, nil
}
