package mutant

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func killMutants() []Mutant {
	return []Mutant{
		{
			ID: "resilience/kill-during-create~half", Kills: "resilience/kill-during-create", Bug: "a create that is cut leaves its half behind, and begins anew",
			Driver: func(d *fake.Driver) sdk.Driver { return &halving{d} },
		},
		{
			ID: "resilience/kill-during-pause~stuck", Kills: "resilience/kill-during-pause", Bug: "a pause that is cut is under way for ever",
			Driver: func(d *fake.Driver) sdk.Driver { return &stuck{Driver: d} },
		},
		{
			ID: "resilience/exec-continues-after-kill~gap", Kills: "resilience/exec-continues-after-kill", Provider: "local",
			Bug:  "the first byte after the offset asked for is lost",
			Wrap: func(conn grpc.ClientConnInterface) grpc.ClientConnInterface { return &gapConn{conn} },
		},
	}
}

// step is how long each half of what a mutant does in two halves takes.
const step = 200 * time.Millisecond

// halfway is half of something. It is not cut by the caller.
func halfway() { <-time.After(step) }

// halving makes a sandbox of another name first, which it removes when the real
// one is there.
type halving struct{ *fake.Driver }

// CreateSandbox implements sdk.Driver.
func (d *halving) CreateSandbox(ctx context.Context, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
	half := clone(req)
	half.Identity.SandboxId += "-half"
	half.Operation.IdempotencyKey = newKey()
	if _, err := d.Driver.CreateSandbox(ctx, half); err != nil {
		return nil, err
	}
	halfway()
	sb, err := d.Driver.CreateSandbox(ctx, req)
	if err != nil {
		return nil, err
	}
	_, err = d.DeleteSandbox(ctx, &providerv1.DeleteSandboxRequest{Sandbox: ref(half.GetIdentity().GetSandboxId())})
	return sb, err
}

// stuck notes in a file that it pauses, and believes the note.
type stuck struct {
	*fake.Driver
	dir string
}

// Configure implements sdk.Driver.
func (d *stuck) Configure(ctx context.Context, req *providerv1.ConfigureRequest) error {
	d.dir = req.GetStateDir()
	return d.Driver.Configure(ctx, req)
}

func (d *stuck) note(id string) string { return filepath.Join(d.dir, "pausing-"+id) }

// PauseSandbox implements sdk.Pauser.
func (d *stuck) PauseSandbox(ctx context.Context, req *providerv1.PauseSandboxRequest) (*providerv1.Sandbox, error) {
	note := d.note(req.GetSandbox().GetSandboxId())
	if err := os.WriteFile(note, nil, 0o600); err != nil {
		return nil, err
	}
	halfway()
	sb, err := d.Driver.PauseSandbox(ctx, req)
	_ = os.Remove(note) // it was written above
	return sb, err
}

// GetSandbox implements sdk.Driver.
func (d *stuck) GetSandbox(ctx context.Context, req *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) {
	sb, err := d.Driver.GetSandbox(ctx, req)
	if err != nil {
		return nil, err
	}
	if _, missing := os.Stat(d.note(sb.GetIdentity().GetSandboxId())); missing == nil {
		sb.State = providerv1.SandboxState_SANDBOX_STATE_PAUSING
	}
	return sb, nil
}
