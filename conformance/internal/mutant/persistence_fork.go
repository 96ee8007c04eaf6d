package mutant

import (
	"context"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func forkMutants() []Mutant {
	return []Mutant{
		{
			ID: "fork/copies-disk~empty", Kills: "fork/copies-disk", Bug: "copies lack what was in folders", Also: []string{"fork/independent"},
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"ForkSandbox": inCopies(func(ctx context.Context, c client, id string) { inside(ctx, c, id, "rm -r /tmp/d") })}
			}),
		},
		{
			ID: "fork/independent~shared", Kills: "fork/independent", Bug: "copies share one disk",
			Wrap: wrapping(sharedCopies),
		},
		{
			ID: "fork/identities~labels", Kills: "fork/identities", Bug: "copies lose the labels that they were given",
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"ForkSandbox": before(func(_ context.Context, _ client, req *providerv1.ForkSandboxRequest) {
					for _, id := range req.GetIdentities() {
						id.Labels = nil
					}
				})}
			}),
		},
		{
			ID: "fork/idempotent~again", Kills: "fork/idempotent", Bug: "a repeated call makes further copies",
			Wrap: wrapping(func() map[string]hook {
				seen := newMemory[int]()
				return map[string]hook{"ForkSandbox": before(func(_ context.Context, _ client, req *providerv1.ForkSandboxRequest) {
					if seen.change(req.GetOperation().GetIdempotencyKey(), func(n int) int { return n + 1 }) > 1 {
						req.Operation = stage.NewOperation()
						for _, id := range req.GetIdentities() {
							id.SandboxId += "-again"
						}
					}
				})}
			}),
		},
		{
			ID: "fork/all-or-none~some", Kills: "fork/all-or-none", Bug: "copies that could be made are left when another could not",
			Also: []string{"fork/no-downgrade"},
			Wrap: wrapping(func() map[string]hook { return map[string]hook{"ForkSandbox": someCopies} }),
		},
		{
			ID: "fork/clock~behind", Kills: "fork/clock", Bug: "a copy's clock starts at the time of the original's creation",
			Wrap: wrapping(slowCopies),
		},
		{
			ID: "fork/no-downgrade~silent", Kills: "fork/no-downgrade", Bug: "copies have the disk alone although processes were asked for",
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"ForkSandbox": before(func(_ context.Context, _ client, req *providerv1.ForkSandboxRequest) { req.Minimum = stage.Disk })}
			}),
		},
	}
}

// localMutants break what only a provider with real processes can do.
func localMutants() []Mutant {
	return []Mutant{
		{
			ID: "snapshot/restores-processes~cold", Kills: "snapshot/restores-processes", Provider: "local",
			Bug: "a restored sandbox has the files, and none of the processes",
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"RestoreSnapshot": after(func(ctx context.Context, c client, req *providerv1.RestoreSnapshotRequest, _ *providerv1.RestoreSnapshotResponse) {
					killAll(ctx, c, req.GetIdentity().GetSandboxId(), nil)
				})}
			}),
		},
		{
			ID: "snapshot/downgrade-on-request~refused", Kills: "snapshot/downgrade-on-request", Provider: "local",
			Bug: "a snapshot with processes can only be restored with processes",
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"RestoreSnapshot": func(_ context.Context, _ client, req, _ proto.Message, next func(proto.Message) error) error {
					if restore, ok := req.(*providerv1.RestoreSnapshotRequest); ok && !restore.GetMinimum().GetProcesses() {
						return refuse(providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE, "the snapshot has processes")
					}
					return next(req)
				}}
			}),
			Also: []string{
				"snapshot/restores-disk", "snapshot/point-in-time", "snapshot/outlives-sandbox", "snapshot/restored-twice", "snapshot/deleted-in-use",
				"snapshot/idempotent", "snapshot/absent",
			},
		},
		{
			ID: "fork/copies-processes~cold", Kills: "fork/copies-processes", Provider: "local", Also: []string{"fork/entropy"},
			Bug: "copies have the files, and none of the processes",
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"ForkSandbox": inCopies(func(ctx context.Context, c client, id string) { killAll(ctx, c, id, nil) })}
			}),
		},
		{
			ID: "fork/entropy~same", Kills: "fork/entropy", Provider: "local", Bug: "copies go on with the same random numbers",
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"StartExec": before(func(_ context.Context, _ client, req *providerv1.StartExecRequest) {
					for i, arg := range req.GetSpec().GetArgv() {
						req.Spec.Argv[i] = strings.ReplaceAll(arg, "3< /dev/urandom", "3< /dev/zero")
					}
				})}
			}),
		},
	}
}

// inCopies does something in each copy when they have been made.
func inCopies(do func(ctx context.Context, c client, id string)) hook {
	return after(func(ctx context.Context, c client, req *providerv1.ForkSandboxRequest, _ *providerv1.ForkSandboxResponse) {
		for _, id := range req.GetIdentities() {
			do(ctx, c, id.GetSandboxId())
		}
	})
}

// sharedCopies repeats in the other copies what is run in one.
func sharedCopies() map[string]hook {
	siblings := newMemory[[]string]()
	return map[string]hook{
		"ForkSandbox": after(func(_ context.Context, _ client, req *providerv1.ForkSandboxRequest, _ *providerv1.ForkSandboxResponse) {
			var ids []string
			for _, id := range req.GetIdentities() {
				ids = append(ids, id.GetSandboxId())
			}
			for _, id := range ids {
				siblings.set(id, ids)
			}
		}),
		"StartExec": after(func(ctx context.Context, c client, req *providerv1.StartExecRequest, _ *providerv1.StartExecResponse) {
			argv := req.GetSpec().GetArgv()
			for _, id := range siblings.get(req.GetSandbox().GetSandboxId()) {
				if id != req.GetSandbox().GetSandboxId() {
					inside(ctx, c, id, argv[len(argv)-1])
				}
			}
		}),
	}
}

// someCopies makes a fork's copies one by one, and leaves those that were made.
func someCopies(ctx context.Context, c client, req, reply proto.Message, next func(proto.Message) error) error {
	err := next(req)
	fork, ok := req.(*providerv1.ForkSandboxRequest)
	if err == nil || !ok {
		return err
	}
	for _, id := range fork.GetIdentities() {
		_, _ = c.ForkSandbox(ctx, &providerv1.ForkSandboxRequest{
			Sandbox: fork.GetSandbox(), Operation: stage.NewOperation(), Identities: []*providerv1.Identity{id},
		})
	}
	return err
}

// slowCopies have a clock that is five seconds late.
func slowCopies() map[string]hook {
	copied := newMemory[bool]()
	return map[string]hook{
		"ForkSandbox": inCopies(func(_ context.Context, _ client, id string) { copied.set(id, true) }),
		"StartExec": before(func(_ context.Context, _ client, req *providerv1.StartExecRequest) {
			if copied.get(req.GetSandbox().GetSandboxId()) {
				behind(req, 5*time.Second)
			}
		}),
	}
}
