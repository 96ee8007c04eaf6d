package resilience

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/request"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// burdens are the cases about what must not end a plugin.
func burdens() []engine.Case {
	return []engine.Case{
		{
			ID: "proc/keepalive-permitted", Title: "A connection without calls is pinged every 5 seconds, and stays.",
			Profile: engine.Resilience, Requirements: []string{"REQ-PROC-006"}, Kinds: processes, Phase: engine.Apart,
			Budget: slow, Run: keepalive,
		},
		{
			ID: "proc/survives-panic", Title: "Whatever a call asks for, the same process serves the next one.",
			Profile: engine.Resilience, Requirements: []string{"REQ-PROC-008"}, Kinds: processes, Phase: engine.Apart, Cost: 5,
			Budget: time.Minute, Run: survives,
		},
		{
			ID: "proc/stderr-flood", Title: "It serves on when nobody reads its log, and when nobody can any more.",
			Profile: engine.Resilience, Requirements: []string{"REQ-PROC-009"}, Kinds: processes, Phase: engine.Apart,
			Run: stderrFlood,
		},
		{
			ID: "resilience/frozen", Title: "A process that stood still for a while serves on where it was.",
			Profile: engine.Resilience, Requirements: []string{"REQ-REC-001", "REQ-PROC-013"}, Kinds: processes, Phase: engine.Apart, Cost: 5,
			Run: frozen,
		},
	}
}

func survives(t *engine.T) {
	before := t.Instance().Process.PID()
	box := stage.Create(t)
	for _, md := range request.Methods() {
		switch md.Name() {
		case "Configure", "Drain":
			continue // it would not be this plugin any more
		}
		empty, err := request.Empty(md)
		broken(t, "make a request", err)
		valid, err := request.New(md, stage.Values(t, nil))
		broken(t, "make a request", err)
		t.Step("%s", md.Name())
		hostile(t, func(ctx context.Context) error { return request.Send(ctx, t.Conn(), md, empty) })
		hostile(t, func(ctx context.Context) error { return request.Send(ctx, t.Conn(), md, valid) })
		if md.Name() != "DeleteSandbox" && md.Name() != "PauseSandbox" {
			valid, err = request.New(md, stage.Values(t, box))
			broken(t, "make a request", err)
		}
		for _, bad := range request.Spoiled(valid) {
			hostile(t, func(ctx context.Context) error { return request.Send(ctx, t.Conn(), md, bad.Request) })
		}
		if now := t.Instance().Process.PID(); now != before {
			t.Fatalf("after calls of %s process %d serves, and not %d: want no call to end the process", md.Name(), now, before)
		}
	}
	if _, err := t.Client().GetSandbox(t.Context(), box.ByRef()); err != nil {
		t.Errorf("GetSandbox after all that: %s: want the sandbox", subject.Describe(err))
	}
	if now := t.Instance().Process.PID(); now != before {
		t.Errorf("at the end process %d serves, and not %d: want no call to end the process", now, before)
	}
}

// hostile makes a call of which the answer does not matter: that is what the
// cases about errors are for.
func hostile(t *engine.T, call func(context.Context) error) {
	ctx, cancel := context.WithTimeout(t.Context(), stage.Moment)
	defer cancel()
	_ = call(ctx)
}

// flooding is how many failing calls are made: a plugin that says a line about
// each says more than any buffer of a pipe holds.
const flooding = 100

func stderrFlood(t *engine.T) {
	unread, log := pipe(t)
	t.Cleanup(func(context.Context) { _, _ = unread.Close(), log.Close() }) // nobody reads it
	fill(t, log)
	p := start(t, launch{stderr: log}).serve()
	_ = log.Close() // the plugin has its own
	flood(p, "while nobody reads its log")
	p.works("while nobody reads its log")
	_ = unread.Close() // what is written now has nowhere to go
	flood(p, "after its log was closed")
	p.works("after its log was closed")
}

// fill makes the next write to a pipe wait.
func fill(t *engine.T, w *os.File) {
	broken(t, "fill the pipe", w.SetWriteDeadline(time.Now().Add(stage.Moment/5)))
	for _, piece := range [][]byte{make([]byte, 4096), {0}} {
		for {
			_, err := w.Write(piece)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			broken(t, "fill the pipe", err)
		}
	}
	broken(t, "fill the pipe", w.SetWriteDeadline(time.Time{}))
}

// flood makes calls that fail, of which each must be answered.
func flood(p *process, when string) {
	p.t.Step("%d failing calls %s", flooding, when)
	for range flooding {
		missing := &providerv1.SandboxRef{SandboxId: stage.NewID("sbx")}
		ctx, cancel := context.WithTimeout(p.t.Context(), stage.Patience(p.t))
		_, err := p.client.GetSandbox(ctx, &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{Sandbox: missing}})
		cancel()
		select {
		case <-p.ended:
			p.t.Fatalf("%s the plugin ended with %s: want it to serve on", when, p.cmd.ProcessState)
		default:
		}
		// A call that waits for a reader of the log ends with its deadline.
		what := "GetSandbox of what does not exist, " + when + ","
		stage.NoEffect(p.t, what, stage.Refused(p.t, what, err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND))
	}
}

func frozen(t *engine.T) {
	p := start(t, launch{}).serve()
	box := p.create()
	p.signal(syscall.SIGSTOP)
	t.Cleanup(func(context.Context) { _ = p.cmd.Process.Signal(syscall.SIGCONT) }) // so that it can end
	stage.Eventually(t, stage.Patience(t), "a process that was stopped to answer no more", func(context.Context) bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := p.client.GetSandbox(ctx, box.ByRef())
		return err != nil
	})
	p.signal(syscall.SIGCONT)
	box.Get()
	stage.Pause(t, stage.Moment) // what looks at the clock now and then has looked
	box.Run("echo", "on").Code(0).Out("on\n")
	box.Delete()
}
