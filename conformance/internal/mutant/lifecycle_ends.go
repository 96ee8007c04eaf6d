package mutant

import (
	"context"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// caseOf is the case that a mutant's id begins with.
func caseOf(id string) string {
	kills, _, _ := strings.Cut(id, "~")
	return kills
}

func byKey(key string) *providerv1.GetSandboxRequest {
	return &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_IdempotencyKey{IdempotencyKey: key}}
}

// deleting is a driver that changes what DeleteSandbox does.
type deleting struct {
	*fake.Driver
	remove func(context.Context, *fake.Driver, *providerv1.DeleteSandboxRequest) (*providerv1.DeleteSandboxResponse, error)
}

func (d *deleting) DeleteSandbox(ctx context.Context, req *providerv1.DeleteSandboxRequest) (*providerv1.DeleteSandboxResponse, error) {
	return d.remove(ctx, d.Driver, req)
}

func deletes(id, bug string, remove func(context.Context, *fake.Driver, *providerv1.DeleteSandboxRequest) (*providerv1.DeleteSandboxResponse, error)) Mutant {
	return Mutant{ID: id, Kills: caseOf(id), Bug: bug, Driver: func(d *fake.Driver) sdk.Driver { return &deleting{d, remove} }}
}

func deleteMutants() []Mutant {
	return []Mutant{
		deletes("delete/idempotent~not-found", "deleting what is not there is an error",
			func(ctx context.Context, d *fake.Driver, req *providerv1.DeleteSandboxRequest) (*providerv1.DeleteSandboxResponse, error) {
				out, err := d.DeleteSandbox(ctx, req)
				if out.GetAlreadyAbsent() {
					return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "sandbox %q does not exist", req.GetSandbox().GetSandboxId()).
						With("sandbox_id", req.GetSandbox().GetSandboxId())
				}
				return out, err
			}).with("delete/while-creating"),
		deletes("delete/idempotent~never-absent", "already_absent is never said",
			func(ctx context.Context, d *fake.Driver, req *providerv1.DeleteSandboxRequest) (*providerv1.DeleteSandboxResponse, error) {
				_, err := d.DeleteSandbox(ctx, req)
				return &providerv1.DeleteSandboxResponse{}, err
			}),
		{
			ID: "delete/nothing-works-after~exec", Kills: "delete/nothing-works-after",
			Bug:    "a command in a sandbox that was deleted is refused as if the vendor were down",
			Driver: func(d *fake.Driver) sdk.Driver { return &vagueStarts{d} },
		},
		{
			ID: "delete/ends-processes~hidden", Kills: "delete/ends-processes",
			Bug:    "a sandbox that is deleted is hidden, and goes on",
			Driver: func(d *fake.Driver) sdk.Driver { return &hiding{Driver: d, hidden: map[string]bool{}} },
		},
		{
			ID: "delete/while-creating~refused", Kills: "delete/while-creating",
			Bug:    "a sandbox that is being created cannot be deleted",
			Driver: func(d *fake.Driver) sdk.Driver { return &busyCreating{Driver: d, under: newOverlap()} },
		},
		deletes("delete/paused~refused", "a paused sandbox has to be resumed before it can be deleted",
			func(ctx context.Context, d *fake.Driver, req *providerv1.DeleteSandboxRequest) (*providerv1.DeleteSandboxResponse, error) {
				sb, err := d.GetSandbox(ctx, bySandboxID(req.GetSandbox().GetSandboxId()))
				if err == nil && sb.GetState() == providerv1.SandboxState_SANDBOX_STATE_PAUSED {
					return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING, "the sandbox is paused").With("state", "PAUSED")
				}
				return d.DeleteSandbox(ctx, req)
			}),
		{
			ID: "gc/no-leaks-after-run~process", Kills: "gc/no-leaks-after-run",
			Bug:    "a helper of a sandbox outlives it",
			Driver: func(d *fake.Driver) sdk.Driver { return &leakingProcess{d} },
		},
		{
			ID: "gc/no-leaks-after-run~volume", Kills: "gc/no-leaks-after-run",
			Bug:    "deleting a volume is forgotten",
			Driver: func(d *fake.Driver) sdk.Driver { return &leakingVolume{d} },
		},
	}
}

// vagueStarts does not say why a command cannot start.
type vagueStarts struct{ *fake.Driver }

func (d *vagueStarts) StartProcess(ctx context.Context, sandbox *providerv1.SandboxRef, id string, spec *providerv1.ExecSpec) (sdk.Process, error) {
	p, err := d.Driver.StartProcess(ctx, sandbox, id, spec)
	if fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "no answer from the sandbox").WithEffect(providerv1.Effect_EFFECT_NONE)
	}
	return p, err
}

// hiding hides what it should delete.
type hiding struct {
	*fake.Driver
	mu     sync.Mutex
	hidden map[string]bool
}

func (d *hiding) is(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hidden[id]
}

func (d *hiding) DeleteSandbox(ctx context.Context, req *providerv1.DeleteSandboxRequest) (*providerv1.DeleteSandboxResponse, error) {
	id := req.GetSandbox().GetSandboxId()
	if d.is(id) { // the second attempt does it, so that nothing stays
		_, err := d.Driver.DeleteSandbox(ctx, req)
		return &providerv1.DeleteSandboxResponse{AlreadyAbsent: true}, err
	}
	if _, err := d.Driver.GetSandbox(ctx, bySandboxID(id)); err != nil {
		return d.Driver.DeleteSandbox(ctx, req)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hidden[id] = true
	return &providerv1.DeleteSandboxResponse{}, nil
}

func (d *hiding) GetSandbox(ctx context.Context, req *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) {
	sb, err := d.Driver.GetSandbox(ctx, req)
	if d.is(sb.GetIdentity().GetSandboxId()) {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "the sandbox was deleted")
	}
	return sb, err
}

func (d *hiding) ListSandboxes(ctx context.Context, req *providerv1.ListSandboxesRequest) (*providerv1.ListSandboxesResponse, error) {
	out, err := d.Driver.ListSandboxes(ctx, req)
	if out != nil {
		out.Sandboxes = slices.DeleteFunc(out.GetSandboxes(), func(sb *providerv1.Sandbox) bool { return d.is(sb.GetIdentity().GetSandboxId()) })
	}
	return out, err
}

func (d *hiding) missing(ref *providerv1.SandboxRef) error {
	if !d.is(ref.GetSandboxId()) {
		return nil
	}
	return fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "the sandbox was deleted")
}

func (d *hiding) StartProcess(ctx context.Context, sandbox *providerv1.SandboxRef, id string, spec *providerv1.ExecSpec) (sdk.Process, error) {
	if err := d.missing(sandbox); err != nil {
		return nil, err
	}
	return d.Driver.StartProcess(ctx, sandbox, id, spec)
}

func (d *hiding) GetUsage(ctx context.Context, req *providerv1.GetUsageRequest) (*providerv1.Usage, error) {
	if err := d.missing(req.GetSandbox()); err != nil {
		return nil, err
	}
	return d.Driver.GetUsage(ctx, req)
}

func (d *hiding) PauseSandbox(ctx context.Context, req *providerv1.PauseSandboxRequest) (*providerv1.Sandbox, error) {
	if err := d.missing(req.GetSandbox()); err != nil {
		return nil, err
	}
	return d.Driver.PauseSandbox(ctx, req)
}

// busyCreating takes its time to create, until somebody comes to delete, and
// refuses to be disturbed.
type busyCreating struct {
	*fake.Driver
	under *overlap
}

func (d *busyCreating) CreateSandbox(ctx context.Context, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
	_, second, left := d.under.enter(req.GetIdentity().GetSandboxId())
	defer left()
	await(ctx, second, forAnother)
	return d.Driver.CreateSandbox(ctx, req)
}

func (d *busyCreating) DeleteSandbox(ctx context.Context, req *providerv1.DeleteSandboxRequest) (*providerv1.DeleteSandboxResponse, error) {
	nth, _, left := d.under.enter(req.GetSandbox().GetSandboxId())
	defer left()
	if nth > 1 {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING, "the sandbox is being created").With("state", "CREATING")
	}
	return d.Driver.DeleteSandbox(ctx, req)
}

// leakingProcess starts a process for each sandbox and forgets it. It ends by
// itself, not long after the test.
type leakingProcess struct{ *fake.Driver }

func (d *leakingProcess) CreateSandbox(ctx context.Context, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
	helper := exec.CommandContext(context.WithoutCancel(ctx), "sleep", "20")
	helper.Env = []string{"SANDBOX=" + req.GetIdentity().GetSandboxId()}
	if err := helper.Start(); err != nil {
		return nil, err
	}
	return d.Driver.CreateSandbox(ctx, req)
}

// leakingVolume keeps volumes.
type leakingVolume struct{ *fake.Driver }

func (d *leakingVolume) DeleteVolume(context.Context, *providerv1.DeleteVolumeRequest) (*providerv1.DeleteVolumeResponse, error) {
	return &providerv1.DeleteVolumeResponse{}, nil
}

func lifetimeMutants() []Mutant {
	return []Mutant{
		creates("lifetime/expires~lives-on", "a lifetime is told and not kept",
			func(ctx context.Context, d *fake.Driver, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
				life := req.GetSpec().GetLifetime()
				if life.AsDuration() > time.Minute || life == nil {
					return d.CreateSandbox(ctx, req)
				}
				req.Spec.Lifetime = durationpb.New(time.Hour)
				sb, err := d.CreateSandbox(ctx, req)
				return sb, err
			}).with("lifetime/extend"),
		{
			ID: "lifetime/extend~told-only", Kills: "lifetime/extend",
			Bug:    "an extension is answered and not made",
			Driver: func(d *fake.Driver) sdk.Driver { return &extending{d, false} },
		},
		{
			ID: "lifetime/never-back~back", Kills: "lifetime/never-back",
			Bug:    "an end that lies before the present one is answered with the present one",
			Driver: func(d *fake.Driver) sdk.Driver { return &extending{d, true} },
		},
		{
			ID: "usage/grows~since-ever", Kills: "usage/grows",
			Bug: "active is counted from the start of the year",
			Unary: answer("GetUsage", func(_ any, resp *providerv1.GetUsageResponse, err error) error {
				if err == nil {
					const year = 365 * 24 * time.Hour
					resp.Usage.Active = durationpb.New(resp.GetUsage().GetActive().AsDuration() + year)
				}
				return err
			}),
		},
		{
			ID: "usage/grows~falls", Kills: "usage/grows",
			Bug:    "what was received since the last question is said to be all",
			Driver: func(d *fake.Driver) sdk.Driver { return &falling{Driver: d} },
		},
	}
}

// extending is wrong about extensions: it makes none, or accepts those that go
// back.
type extending struct {
	*fake.Driver
	back bool
}

func (d *extending) ExtendLifetime(ctx context.Context, req *providerv1.ExtendLifetimeRequest) (*providerv1.Sandbox, error) {
	if now, err := d.GetSandbox(ctx, bySandboxID(req.GetSandbox().GetSandboxId())); !d.back && err == nil &&
		req.GetExpiresAt().AsTime().After(now.GetExpiresAt().AsTime()) {
		now.ExpiresAt = req.GetExpiresAt()
		return now, nil
	}
	sb, err := d.Driver.ExtendLifetime(ctx, req)
	if d.back && fault.Has(err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID) {
		return d.GetSandbox(ctx, bySandboxID(req.GetSandbox().GetSandboxId()))
	}
	return sb, err
}

// falling resets a counter.
type falling struct {
	*fake.Driver
	mu    sync.Mutex
	asked bool
}

func (d *falling) GetUsage(ctx context.Context, req *providerv1.GetUsageRequest) (*providerv1.Usage, error) {
	out, err := d.Driver.GetUsage(ctx, req)
	d.mu.Lock()
	defer d.mu.Unlock()
	if out != nil && !d.asked {
		received := int64(1000)
		out.NetworkRxBytes, d.asked = &received, true
	}
	return out, err
}

func recoverMutants() []Mutant {
	return []Mutant{
		{
			ID: "recover/three-valued~order", Kills: "recover/three-valued",
			Bug: "answers come in the order of what was found",
			Unary: answer("Recover", func(_ any, resp *providerv1.RecoverResponse, err error) error {
				slices.SortStableFunc(resp.GetRecoveries(), func(a, b *providerv1.Recovery) int { return int(a.GetOutcome()) - int(b.GetOutcome()) })
				return err
			}),
		},
		{
			ID: "recover/three-valued~doubt", Kills: "recover/three-valued",
			Bug: "what the vendor does not have is unknown for ever",
			Unary: answer("Recover", func(_ any, resp *providerv1.RecoverResponse, err error) error {
				for _, r := range resp.GetRecoveries() {
					if r.GetOutcome() == providerv1.RecoveryOutcome_RECOVERY_OUTCOME_GONE {
						r.Outcome = providerv1.RecoveryOutcome_RECOVERY_OUTCOME_UNKNOWN
						r.Cause = &providerv1.Fault{Reason: providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, Message: "it was not found"}
					}
				}
				return err
			}),
		},
		{
			ID: "recover/old-handles~newest", Kills: "recover/old-handles",
			Bug:    "a handle of an earlier process is not read",
			Driver: func(d *fake.Driver) sdk.Driver { return &ownHandles{d, newKey()} },
		},
		{
			ID: "watch/state-then-changes~no-synced", Kills: "watch/state-then-changes",
			Bug: "nothing says when the first listing is complete",
			Stream: frames("WatchSandboxes", func() func(*providerv1.WatchSandboxesResponse) []*providerv1.WatchSandboxesResponse {
				return func(f *providerv1.WatchSandboxesResponse) []*providerv1.WatchSandboxesResponse {
					if f.GetSynced() != nil {
						return nil
					}
					return []*providerv1.WatchSandboxesResponse{f}
				}
			}),
		},
		{
			ID: "watch/state-then-changes~late-start", Kills: "watch/state-then-changes",
			Bug: "watching begins with what changes, and leaves out what there is",
			Stream: frames("WatchSandboxes", func() func(*providerv1.WatchSandboxesResponse) []*providerv1.WatchSandboxesResponse {
				synced := false
				return func(f *providerv1.WatchSandboxesResponse) []*providerv1.WatchSandboxesResponse {
					if synced = synced || f.GetSynced() != nil; !synced {
						return nil
					}
					return []*providerv1.WatchSandboxesResponse{f}
				}
			}),
		},
	}
}

// ownHandles puts what only this process knows into handles.
type ownHandles struct {
	*fake.Driver
	life string
}

func (d *ownHandles) CreateSandbox(ctx context.Context, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
	sb, err := d.Driver.CreateSandbox(ctx, req)
	if sb != nil {
		sb.Handle = &providerv1.Handle{Version: 1, Data: []byte(d.life)}
	}
	return sb, err
}

func (d *ownHandles) GetSandbox(ctx context.Context, req *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) {
	if h := req.GetSandbox().GetHandle(); h != nil && string(h.GetData()) != d.life {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "the handle belongs to nothing")
	}
	sb, err := d.Driver.GetSandbox(ctx, req)
	if sb != nil {
		sb.Handle = &providerv1.Handle{Version: 1, Data: []byte(d.life)}
	}
	return sb, err
}
