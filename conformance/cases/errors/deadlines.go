package errors

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/request"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// deadlines are the cases about calls that end before their work does.
func deadlines() []engine.Case {
	return []engine.Case{
		{
			ID: "deadline/missing-refused", Title: "A unary call without a deadline is refused.",
			Profile: engine.Core, Requirements: []string{"REQ-PROC-012"}, Kinds: own,
			Run: missingDeadline,
		},
		{
			ID: "deadline/honoured", Title: "A call that would take longer answers by its deadline, and says what it may have done.",
			Profile: engine.Core, Requirements: []string{"REQ-PROC-013", "REQ-ERR-003"}, Kinds: own, Cost: 10,
			Run: honoured,
		},
		{
			ID: "cancel/propagates", Title: "What a cancelled call did upstream ends with it.",
			Profile: engine.Core, Requirements: []string{"REQ-PROC-013"}, Kinds: own, Phase: engine.Apart, Cost: 5,
			Run: cancelled,
		},
	}
}

func missingDeadline(t *engine.T) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	defer cancel()
	defer context.AfterFunc(t.Context(), cancel)()
	values := stage.Values(t, nil)
	for _, md := range request.Methods() {
		// Were these two taken, it would not be this plugin any more.
		if md.IsStreamingClient() || md.IsStreamingServer() || md.Name() == "Drain" || md.Name() == "Configure" {
			continue
		}
		req, err := request.New(md, values)
		if err != nil {
			t.Broken("%v", err)
		}
		if len(request.Undeclared(md, req, t.Has)) > 0 {
			continue
		}
		what := string(md.Name()) + " without a deadline"
		// The recorder would give it one.
		err = request.Send(ctx, t.Instance().Conn, md, req)
		if err == nil {
			t.Errorf("%s succeeded: want FIELD_INVALID", what)
			continue
		}
		f := stage.Refused(t, what, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
		stage.NoEffect(t, what, f)
		stage.Names(t, what, f, fault.MetaField, "deadline")
	}
}

// honoured gives creating less and less time. Whether a provider needs more is
// its own affair; how it says so is not.
func honoured(t *engine.T) {
	for _, limit := range []time.Duration{2 * time.Second, time.Second} {
		what := "CreateSandbox within " + limit.String()
		req, err := inTime(t, what, limit)
		if err == nil {
			continue
		}
		f := stage.Refused(t, what, err, providerv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED,
			providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, providerv1.ErrorReason_ERROR_REASON_CAPACITY_EXHAUSTED)
		if f.Effect == providerv1.Effect_EFFECT_NONE {
			proven(t, what, req)
		}
	}
}

// inTime creates with a deadline, and returns what the plugin answered before that.
// It has three attempts: on a machine that is busy the answer to one may be late on
// its way.
func inTime(t *engine.T, what string, limit time.Duration) (*providerv1.CreateSandboxRequest, error) {
	const attempts, late = 3, 550 * time.Millisecond
	var took time.Duration
	var err error
	for range attempts {
		t.Step("create within %s", limit)
		req := stage.NewRequest(t)
		start := time.Now()
		err = bounded(t, limit, req)
		if took = time.Since(start); took <= limit+late && (err == nil || fault.From(err).Wire) {
			return req, err
		}
	}
	t.Fatalf("%s: after %s %s: want the plugin's own answer before the deadline, with ErrorInfo", what, took.Round(time.Millisecond), subject.Describe(err))
	return nil, nil
}

func bounded(t *engine.T, limit time.Duration, req *providerv1.CreateSandboxRequest) error {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	_, err := t.Client().CreateSandbox(ctx, req)
	return err //nolint:wrapcheck // it is the peer's answer
}

// proven holds a provider to its word that nothing happened, for a while.
func proven(t *engine.T, what string, req *providerv1.CreateSandboxRequest) {
	const aWhile = time.Second
	for start := time.Now(); time.Since(start) < aWhile; stage.Pause(t, 50*time.Millisecond) {
		_, err := t.Client().GetSandbox(t.Context(), &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{
			Sandbox: &providerv1.SandboxRef{SandboxId: req.GetIdentity().GetSandboxId()},
		}})
		if err == nil {
			t.Errorf("%s ended with effect none, and the sandbox exists: want effect unknown", what)
			return
		}
	}
}

// cancelled leaves calls of every kind in the middle, and asks Drain how many it
// still has.
func cancelled(t *engine.T) {
	box := stage.Create(t)
	cmd := box.Start(stage.Argv("sleep", "60"))
	attached := cmd.Attach()
	t.Step("leave calls")
	leaveCreate(t, func(*providerv1.SandboxRef, <-chan struct{}) {
		const inTheMiddle = 50 * time.Millisecond
		stage.Pause(t, inTheMiddle)
	})
	leaveCreate(t, func(ref *providerv1.SandboxRef, answered <-chan struct{}) {
		untilSeen(t, ref, answered)
	})
	attached.Detach()
	if state := cmd.Get().GetState(); state != providerv1.ExecState_EXEC_STATE_RUNNING {
		t.Errorf("after its attachment was cancelled the command is %s: want RUNNING", state)
	}
	const grace = 5 * time.Second
	t.Step("drain")
	start := time.Now()
	resp, err := t.Client().Drain(t.Context(), &providerv1.DrainRequest{Grace: durationpb.New(grace)})
	stage.OK(t, "Drain", err)
	if n := resp.GetUnfinished(); n != 0 {
		t.Errorf("%s after all calls were cancelled %d are still in flight: want 0", time.Since(start).Round(time.Millisecond), n)
	}
}

// leaveCreate cancels a create when wait returns.
func leaveCreate(t *engine.T, wait func(ref *providerv1.SandboxRef, answered <-chan struct{})) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req := stage.NewRequest(t)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		if _, err := t.Client().CreateSandbox(ctx, req); err != nil {
			t.Step("creating was cancelled: %s", fault.Name(fault.From(err).Reason))
		}
	}()
	wait(&providerv1.SandboxRef{SandboxId: req.GetIdentity().GetSandboxId()}, answered)
	cancel()
	<-answered
}

// untilSeen waits until a sandbox that is being made can be seen, or has been made;
// a vendor need not show it before that.
func untilSeen(t *engine.T, ref *providerv1.SandboxRef, answered <-chan struct{}) {
	const longEnough = 2 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), longEnough)
	defer cancel()
	for ctx.Err() == nil {
		select {
		case <-answered:
			return
		default:
		}
		if _, err := t.Client().GetSandbox(ctx, &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{Sandbox: ref}}); err == nil {
			return
		}
		stage.Pause(t, 20*time.Millisecond)
	}
}
