package identity

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func drain() []engine.Case {
	return []engine.Case{
		{
			ID: "drain/refuses-new-work", Title: "After Drain sandboxes and commands are not begun any more, and can be ended.",
			Profile: engine.Core, Requirements: []string{"REQ-ID-008"}, Kinds: own, Phase: engine.Apart, Cost: 5,
			Run: refusesNewWork,
		},
		{
			ID: "drain/finishes-in-flight", Title: "Calls in flight finish within Drain's grace, and Drain waits for them and no longer.",
			Profile: engine.Core, Requirements: []string{"REQ-ID-008"}, Needs: []string{"exec.stdin"}, Kinds: own, Phase: engine.Apart, Cost: 5,
			Run: finishesInFlight,
		},
		{
			ID: "drain/counts-unfinished", Title: "Drain answers when its grace is over, with the number of calls that did not finish.",
			Profile: engine.Core, Requirements: []string{"REQ-ID-008"}, Kinds: own, Phase: engine.Apart, Cost: 5,
			Run: countsUnfinished,
		},
	}
}

func refusesNewWork(t *engine.T) {
	box := stage.Create(t)
	_, err := t.Client().Drain(t.Context(), &providerv1.DrainRequest{Grace: durationpb.New(0)})
	stage.OK(t, "Drain", err)
	refused := func(what string, err error) {
		stage.NoEffect(t, what, stage.Refused(t, what, err, providerv1.ErrorReason_ERROR_REASON_DRAINING))
	}
	_, err = t.Client().CreateSandbox(t.Context(), stage.NewRequest(t))
	refused("CreateSandbox after Drain", err)
	_, err = t.Client().StartExec(t.Context(), box.NewExec(stage.Argv("true")))
	refused("StartExec after Drain", err)
	if sb := box.Get(); sb.GetState() != providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		t.Errorf("after Drain the sandbox is %s: want RUNNING", stage.StateName(sb.GetState()))
	}
	box.Delete()
}

// drained is what Drain answered, and how long it took.
type drained struct {
	resp *providerv1.DrainResponse
	err  error
	took time.Duration
}

// begin drains beside the case.
func begin(t *engine.T, grace time.Duration) <-chan drained {
	t.Step("drain with a grace of %s", grace)
	done := make(chan drained, 1)
	go func() {
		start := time.Now()
		resp, err := t.Client().Drain(t.Context(), &providerv1.DrainRequest{Grace: durationpb.New(grace)})
		done <- drained{resp, err, time.Since(start)}
	}()
	return done
}

func await(t *engine.T, done <-chan drained) drained {
	select {
	case d := <-done:
		stage.OK(t, "Drain", d.err)
		return d
	case <-t.Context().Done():
		t.Fatalf("Drain does not answer")
		return drained{}
	}
}

func finishesInFlight(t *engine.T) {
	const grace = 20 * time.Second
	spec := stage.Argv("cat")
	spec.Stdin = true
	attached := stage.Create(t).Start(spec).Attach(stage.Writer())
	done := begin(t, grace)
	for { // until Drain is seen to be under way
		_, err := t.Client().CreateSandbox(t.Context(), stage.NewRequest(t))
		if err != nil {
			if f := fault.From(err); f.Reason != providerv1.ErrorReason_ERROR_REASON_DRAINING {
				t.Errorf("CreateSandbox while it drains: %s: want DRAINING", subject.Describe(err))
			}
			break
		}
		early(t, done)
		stage.Pause(t, 50*time.Millisecond)
	}
	early(t, done)
	attached.Input([]byte("to the end"))
	attached.CloseInput()
	attached.Wait().Code(0).Out("to the end")
	select {
	case d := <-done:
		if n := d.resp.GetUnfinished(); n != 0 {
			t.Errorf("Drain answered %d unfinished: want 0, because the call in flight finished", n)
		}
	case <-t.Context().Done():
		t.Fatalf("Drain does not answer although nothing is in flight")
	}
}

// early ends the case if Drain has answered already.
func early(t *engine.T, done <-chan drained) {
	select {
	case d := <-done:
		stage.OK(t, "Drain", d.err)
		t.Fatalf("Drain answered %d unfinished after %s: want it to wait for the call in flight", d.resp.GetUnfinished(), d.took.Round(time.Millisecond))
	default:
	}
}

func countsUnfinished(t *engine.T) {
	const grace = 300 * time.Millisecond
	const late = 5 * time.Second
	stage.Create(t).Start(stage.Argv("sleep", "60")).Attach()
	d := await(t, begin(t, grace))
	if n := d.resp.GetUnfinished(); n != 1 {
		t.Errorf("Drain answered %d unfinished: want 1, the attachment that goes on", n)
	}
	if d.took < grace || d.took > grace+late {
		t.Errorf("Drain answered after %s: want it when its grace of %s is over", d.took.Round(time.Millisecond), grace)
	}
}
