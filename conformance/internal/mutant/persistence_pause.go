package mutant

import (
	"context"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const pausedState = providerv1.SandboxState_SANDBOX_STATE_PAUSED

func pauseMutants() []Mutant {
	return []Mutant{
		{
			ID: "pause/keeps-disk~modes", Kills: "pause/keeps-disk", Bug: "files lose the rights of their group in a pause",
			Also: []string{"pause/idempotent", "pause/concurrent"},
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"ResumeSandbox": after(func(ctx context.Context, c client, req *providerv1.ResumeSandboxRequest, _ *providerv1.ResumeSandboxResponse) {
					inside(ctx, c, req.GetSandbox().GetSandboxId(), "chmod -R g-rwx /tmp/*")
				})}
			}),
		},
		{
			ID: "pause/state-is-told~kept-untold", Kills: "pause/state-is-told", Bug: "Get does not tell what a pause kept",
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"GetSandbox": after(func(_ context.Context, _ client, _ *providerv1.GetSandboxRequest, resp *providerv1.GetSandboxResponse) {
					resp.GetSandbox().Kept = nil
				})}
			}),
		},
		{
			ID: "pause/refuses-use~wakes", Kills: "pause/refuses-use", Bug: "a command silently resumes a paused sandbox",
			Wrap: wrapping(func() map[string]hook { return map[string]hook{"StartExec": wakes} }),
		},
		{
			ID: "pause/idempotent~second-refused", Kills: "pause/idempotent", Bug: "pausing what is paused is refused",
			Also: []string{"pause/concurrent"},
			Wrap: wrapping(func() map[string]hook { return map[string]hook{"PauseSandbox": refusedWhenPaused} }),
		},
		{
			ID: "pause/concurrent~busy", Kills: "pause/concurrent", Bug: "a pause during another is refused as busy",
			Wrap: wrapping(busyPauses),
		},
		{
			ID: "pause/deleted-while-paused~ignored", Kills: "pause/deleted-while-paused", Bug: "deleting a paused sandbox succeeds and does nothing",
			Wrap: wrapping(func() map[string]hook { return map[string]hook{"DeleteSandbox": ignoredWhenPaused} }),
		},
		{
			ID: "pause/no-cpu~counts", Kills: "pause/no-cpu", Bug: "processor time grows during a pause",
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"GetUsage": after(func(_ context.Context, _ client, _ *providerv1.GetUsageRequest, resp *providerv1.GetUsageResponse) {
					resp.GetUsage().CpuNanos = proto.Int64(time.Now().UnixNano())
				})}
			}),
		},
		{
			ID: "pause/survives-plugin~forgets", Kills: "pause/survives-plugin", Bug: "paused sandboxes are kept in the plugin's memory alone",
			Driver: func(d *fake.Driver) sdk.Driver { return &forgetfulPauses{Driver: d, paused: newMemory[bool]()} },
		},
		{
			ID: "pause/clock~stands", Kills: "pause/clock", Bug: "the clock inside stands still during a pause",
			Wrap: wrapping(standingClock),
		},
		{
			ID: "pause/no-downgrade~silent", Kills: "pause/no-downgrade", Bug: "a pause that cannot keep processes keeps the disk and says nothing",
			Settings: without("pause.memory", "pause.processes"),
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"PauseSandbox": before(func(_ context.Context, _ client, req *providerv1.PauseSandboxRequest) {
					req.Minimum = stage.Disk
				})}
			}),
		},
	}
}

// without configures the reference provider to do less.
func without(capabilities ...string) map[string]any {
	list := make([]any, len(capabilities))
	for i, c := range capabilities {
		list[i] = c
	}
	return map[string]any{"disable": list}
}

func isPaused(ctx context.Context, c client, id string) bool {
	resp, err := c.GetSandbox(ctx, bySandboxID(id))
	return err == nil && resp.GetSandbox().GetState() == pausedState
}

func wakes(ctx context.Context, c client, req, _ proto.Message, next func(proto.Message) error) error {
	err := next(req)
	start, ok := req.(*providerv1.StartExecRequest)
	if err == nil || !ok || !isPaused(ctx, c, start.GetSandbox().GetSandboxId()) {
		return err
	}
	if _, err := c.ResumeSandbox(ctx, &providerv1.ResumeSandboxRequest{Sandbox: start.GetSandbox()}); err != nil {
		return err
	}
	return next(req)
}

func refusedWhenPaused(ctx context.Context, c client, req, _ proto.Message, next func(proto.Message) error) error {
	if pause, ok := req.(*providerv1.PauseSandboxRequest); ok && isPaused(ctx, c, pause.GetSandbox().GetSandboxId()) {
		return refuse(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING, "it is paused already")
	}
	return next(req)
}

func ignoredWhenPaused(ctx context.Context, c client, req, _ proto.Message, next func(proto.Message) error) error {
	if del, ok := req.(*providerv1.DeleteSandboxRequest); ok && isPaused(ctx, c, del.GetSandbox().GetSandboxId()) {
		return nil
	}
	return next(req)
}

// busyPauses refuses a pause while another one is under way, and lets each take
// until there is another.
func busyPauses() map[string]hook {
	under := newOverlap()
	return map[string]hook{"PauseSandbox": func(ctx context.Context, _ client, req, _ proto.Message, next func(proto.Message) error) error {
		id := ""
		if pause, ok := req.(*providerv1.PauseSandboxRequest); ok {
			id = pause.GetSandbox().GetSandboxId()
		}
		nth, second, left := under.enter(id)
		defer left()
		if nth > 1 {
			return refuse(providerv1.ErrorReason_ERROR_REASON_OPERATION_IN_PROGRESS, "another pause is under way")
		}
		await(ctx, second, forAnother)
		return next(req)
	}}
}

// forgetfulPauses knows only the pauses of this process.
type forgetfulPauses struct {
	*fake.Driver
	paused *memory[bool]
}

func (d *forgetfulPauses) PauseSandbox(ctx context.Context, req *providerv1.PauseSandboxRequest) (*providerv1.Sandbox, error) {
	d.paused.set(req.GetSandbox().GetSandboxId(), true)
	return d.Driver.PauseSandbox(ctx, req)
}

func (d *forgetfulPauses) GetSandbox(ctx context.Context, req *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) {
	sb, err := d.Driver.GetSandbox(ctx, req)
	if err == nil && sb.GetState() == pausedState && !d.paused.get(sb.GetIdentity().GetSandboxId()) {
		return nil, refuse(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "no such sandbox")
	}
	return sb, err
}

// standingClock takes the time that a sandbox was paused off its clock.
func standingClock() map[string]hook {
	since, lost := newMemory[time.Time](), newMemory[time.Duration]()
	return map[string]hook{
		"PauseSandbox": after(func(_ context.Context, _ client, req *providerv1.PauseSandboxRequest, _ *providerv1.PauseSandboxResponse) {
			since.set(req.GetSandbox().GetSandboxId(), time.Now())
		}),
		"ResumeSandbox": after(func(_ context.Context, _ client, req *providerv1.ResumeSandboxRequest, _ *providerv1.ResumeSandboxResponse) {
			id := req.GetSandbox().GetSandboxId()
			lost.set(id, time.Since(since.get(id)))
		}),
		"StartExec": before(func(_ context.Context, _ client, req *providerv1.StartExecRequest) {
			behind(req, lost.get(req.GetSandbox().GetSandboxId()))
		}),
	}
}

// behind makes date tell an earlier time.
func behind(req *providerv1.StartExecRequest, by time.Duration) {
	for i, arg := range req.GetSpec().GetArgv() {
		req.Spec.Argv[i] = strings.ReplaceAll(arg, "date +%s", "echo $(($(date +%s) - "+strconv.Itoa(int(by.Seconds()+0.5))+"))")
	}
}
