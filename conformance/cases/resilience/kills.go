package resilience

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// kills are the cases about what is left when the plugin is killed in the middle
// of something.
func kills() []engine.Case {
	return []engine.Case{
		{
			ID: "resilience/kill-during-create", Title: "A create that kill -9 cut short, sent again with its key, leads to one sandbox.",
			Profile: engine.Resilience, Requirements: []string{"REQ-IDEM-001", "REQ-IDEM-004", "REQ-REC-001"}, Kinds: processes,
			Phase: engine.Apart, Cost: 30, Budget: 2 * time.Minute,
			Run: killDuringCreate,
		},
		{
			ID: "resilience/kill-during-pause", Title: "After kill -9 in the middle of a pause the sandbox can be paused, and has its files when it is resumed.",
			Profile: engine.Resilience, Requirements: []string{"REQ-PAUSE-002", "REQ-PAUSE-004", "REQ-REC-001"}, Needs: []string{"pause"}, Kinds: processes,
			Phase: engine.Apart, Cost: 30, Budget: 2 * time.Minute,
			Run: killDuringPause,
		},
		{
			ID: "resilience/exec-continues-after-kill", Title: "A command runs on while the plugin is killed, and is read on from where its reader was.",
			Profile: engine.Resilience, Requirements: []string{"REQ-REC-004"}, Needs: []string{"exec.reattach"}, Kinds: processes,
			Phase: engine.Apart, Cost: 20, Budget: time.Minute,
			Run: execContinues,
		},
	}
}

// moments are how long after a call the plugin is killed. At the last one it is
// killed as soon as the call is seen to have begun.
var moments = []time.Duration{0, 5 * time.Millisecond, 30 * time.Millisecond, 120 * time.Millisecond, begun}

const begun = -1

// cut makes a call and kills the plugin meanwhile. What the call answers does not
// matter: it may have been quicker. seen tells whether anything of it is to be
// seen yet.
func cut(t *engine.T, moment time.Duration, what string, call func(context.Context) error, seen func() bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = call(t.Context())
	}()
	if moment == begun {
		t.Step("kill the plugin when %s has begun", what)
		untilBegun(t, done, seen)
	} else {
		t.Step("kill the plugin %s into %s", moment, what)
		stage.Pause(t, moment)
	}
	if err := t.Instance().Process.Kill(t.Context()); err != nil {
		t.Fatalf("%v", err)
	}
	select {
	case <-done:
	case <-t.Context().Done():
		t.Fatalf("%s is not answered although its plugin was killed", what)
	}
}

// untilBegun waits until something of a call is to be seen, or it is answered.
func untilBegun(t *engine.T, done <-chan struct{}, seen func() bool) {
	stage.Eventually(t, stage.Patience(t), "the call answered, or something of it", func(context.Context) bool {
		select {
		case <-done:
			return true
		default:
			return seen()
		}
	})
}

// alone waits for the owner's list to have these sandboxes and no others.
func alone(t *engine.T, when string, want ...string) {
	stage.Eventually(t, stage.Patience(t), fmt.Sprintf("the list %s to have exactly %q", when, want), func(context.Context) bool {
		var got []string
		for _, sb := range stage.ListAll(t, t.Client(), t.Owner(), 0) {
			got = append(got, sb.GetIdentity().GetSandboxId())
		}
		return strings.Join(got, " ") == strings.Join(want, " ")
	})
}

func killDuringCreate(t *engine.T) {
	for _, moment := range moments {
		req := stage.NewRequest(t)
		cut(t, moment, "CreateSandbox", func(ctx context.Context) error {
			_, err := t.Client().CreateSandbox(ctx, req)
			return err //nolint:wrapcheck // it is the peer's answer
		}, func() bool { return len(stage.ListAll(t, t.Client(), t.Owner(), 0)) > 0 })
		t.Step("create it again, with the same key")
		resp, err := t.Client().CreateSandbox(t.Context(), req)
		stage.OK(t, "CreateSandbox with the key of a create that was cut", err)
		box := stage.Found(t, t.Client(), resp.GetSandbox())
		box.AwaitRunning()
		if box.ID() != req.GetIdentity().GetSandboxId() {
			t.Fatalf("CreateSandbox answered sandbox %s: want %s", box.ID(), req.GetIdentity().GetSandboxId())
		}
		alone(t, "after the second create", box.ID())
		box.Run("true").Code(0)
		box.Delete()
		alone(t, "after the delete")
	}
}

func killDuringPause(t *engine.T) {
	box := stage.Create(t)
	box.Sh("echo kept > kept").Code(0)
	for _, moment := range moments {
		cut(t, moment, "PauseSandbox", func(ctx context.Context) error {
			_, err := t.Client().PauseSandbox(ctx, &providerv1.PauseSandboxRequest{Sandbox: box.Ref})
			return err //nolint:wrapcheck // it is the peer's answer
		}, func() bool { return box.Get().GetState() != providerv1.SandboxState_SANDBOX_STATE_RUNNING })
		stage.Eventually(t, stage.Patience(t), "the sandbox to be RUNNING or PAUSED", func(context.Context) bool {
			s := box.Get().GetState()
			return s == providerv1.SandboxState_SANDBOX_STATE_RUNNING || s == providerv1.SandboxState_SANDBOX_STATE_PAUSED
		})
		box.Pause(nil)
		box.Resume()
		box.Run("cat", "kept").Code(0).Out("kept\n")
		alone(t, "after pause and resume", box.ID())
	}
}

// counting prints a thousand lines a second, and ends with an exit code of its
// own.
const counting = `for n in 1 2 3 4; do seq ${n}000 ${n}999; sleep 1; done; exit 7`

func execContinues(t *engine.T) {
	var want strings.Builder
	for n := 1000; n < 5000; n++ {
		fmt.Fprintln(&want, n)
	}
	box := stage.Create(t)
	command := box.Start(stage.Script(counting))
	reader := command.Attach()
	reader.Until("1999\n")
	offset := reader.Next()
	t.Step("kill the plugin at offset %d", offset)
	if err := t.Instance().Process.Kill(t.Context()); err != nil {
		t.Fatalf("%v", err)
	}
	reader.Detach()
	next := command.Attach(stage.From(offset, 0))
	if from := next.Opened().GetStdoutFrom(); from != offset {
		t.Fatalf("the attachment that asked for offset %d of standard output begins at %d", offset, from)
	}
	next.Wait().Code(7).Out(want.String()[offset:])
	command.Wait().Code(7).Out(want.String())
}
