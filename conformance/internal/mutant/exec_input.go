package mutant

import (
	"bytes"
	"context"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func now() *timestamppb.Timestamp { return timestamppb.Now() }

func inputMutants() []Mutant {
	return []Mutant{
		{
			ID: "exec/stdin-echo~newlines", Kills: "exec/stdin-echo", Also: []string{"exec/duplex"},
			Bug: "carriage returns in input become newlines",
			Driver: writing(always, func(b []byte) []byte {
				return bytes.ReplaceAll(b, []byte("\r"), []byte("\n"))
			}),
		},
		{
			ID: "exec/stdin-half-close~empty", Kills: "exec/stdin-half-close",
			Bug: "the end of input is not heard if there was none",
			Stream: typing(func(f *input) bool {
				return f.GetStdinClose() == nil || f.GetStdinClose().GetOffset() > 0
			}),
		},
		{
			ID: "exec/stdin-absent~open", Kills: "exec/stdin-absent",
			Bug: "a command without stdin waits for input that nobody can send",
			Driver: func(d *fake.Driver) sdk.Driver {
				without := newMemory[bool]()
				return &commands{
					Driver: d,
					before: func(_ *providerv1.SandboxRef, id string, spec *providerv1.ExecSpec) error {
						without.set(id, !spec.GetStdin())
						spec.Stdin = true
						return nil
					},
					after: func(c started) sdk.Process {
						if without.get(c.id) {
							return &keptOpen{c.Process}
						}
						return c.Process
					},
				}
			},
		},
		{
			ID: "exec/stdin-acknowledged~ahead", Kills: "exec/stdin-acknowledged",
			Bug: "input is acknowledged that the command has not taken over",
			Stream: printing(func(f *output) {
				if ack := f.GetStdinAck(); ack.GetNext() > 0 {
					ack.Next += 7
				}
			}),
		},
		{
			ID: "exec/stdin-unread~killed", Kills: "exec/stdin-unread",
			Bug: "a command that closes its input is killed when more is sent",
			Driver: command(func(c started) sdk.Process {
				if !c.spec.GetStdin() {
					return c.Process
				}
				return &spoiled{Process: c.Process, stdin: &deadly{c.Stdin(), c.Process}}
			}),
		},
		{
			ID: "exec/duplex~in-turns", Kills: "exec/duplex",
			Bug: "output is not read while input is written",
			Driver: command(func(c started) sdk.Process {
				if !c.spec.GetStdin() {
					return c.Process
				}
				turns := &turns{stdin: c.Stdin(), stdout: c.Stdout()}
				turns.free = sync.NewCond(&turns.mu)
				return &spoiled{Process: c.Process, stdin: turns, stdout: turns}
			}),
		},
	}
}

// keptOpen never closes a command's input.
type keptOpen struct{ sdk.Process }

// Stdin implements sdk.Process.
func (p *keptOpen) Stdin() io.WriteCloser { return open{p.Process.Stdin()} }

type open struct{ io.Writer }

func (open) Close() error { return nil }

// deadly kills a command that does not take its input.
type deadly struct {
	io.WriteCloser
	process sdk.Process
}

// Write implements io.Writer.
func (d *deadly) Write(b []byte) (int, error) {
	n, err := d.WriteCloser.Write(b)
	if err != nil {
		_ = d.process.Signal(context.Background(), execKilled) // it may have ended by itself
	}
	return n, err
}

// turns lets reading wait for writing.
type turns struct {
	stdin  io.WriteCloser
	stdout io.Reader

	mu      sync.Mutex
	free    *sync.Cond
	writing bool
}

// Write implements io.Writer.
func (t *turns) Write(b []byte) (int, error) {
	t.set(true)
	defer t.set(false)
	return t.stdin.Write(b)
}

func (t *turns) set(writing bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writing = writing
	t.free.Broadcast()
}

// Close implements io.Closer.
func (t *turns) Close() error { return t.stdin.Close() }

// Read implements io.Reader.
func (t *turns) Read(b []byte) (int, error) {
	t.mu.Lock()
	for t.writing {
		t.free.Wait()
	}
	t.mu.Unlock()
	return t.stdout.Read(b)
}

func signalMutants() []Mutant {
	return []Mutant{
		{
			ID: "exec/signal-handled~alarm", Kills: "exec/signal-handled",
			Bug: "SIGALRM is sent as SIGTERM",
			Unary: request("SignalExec", func(r *providerv1.SignalExecRequest) {
				if r.GetSignal() == providerv1.ExecSignal_EXEC_SIGNAL_ALRM {
					r.Signal = providerv1.ExecSignal_EXEC_SIGNAL_TERM
				}
			}),
		},
		{
			ID: "exec/signal-default~cause", Kills: "exec/signal-default",
			Bug: "of the signals that a caller sends only SIGKILL counts as the caller's doing",
			Stream: ends(func(e *providerv1.ExitStatus) {
				if e.GetCause() == causeSignaled && e.GetSignal() != "SIGKILL" {
					e.Cause = causeTask
				}
			}),
		},
		{
			ID: "exec/signal-group~lead-only", Kills: "exec/signal-group",
			Bug: "SIGKILL reaches the lead process and leaves its children",
			Driver: func(d *fake.Driver) sdk.Driver {
				return &commands{Driver: d, before: leads(noTimeout), after: leadsOnly(noTimeout)}
			},
		},
		{
			ID: "exec/signal-stop~ignored", Kills: "exec/signal-stop",
			Bug:   "SIGSTOP is a success without effect",
			Unary: stopIgnored,
		},
		{
			ID: "exec/signal-after-end~refused", Kills: "exec/signal-after-end",
			Bug:   "a signal to a command that has ended is refused",
			Unary: signalAfterEndRefused,
		},
		{
			ID: "attach/signal~ignored", Kills: "attach/signal",
			Bug:    "signals that come through an attachment are ignored",
			Stream: typing(func(f *input) bool { return f.GetSignal() == 0 }),
		},
	}
}

func noTimeout(s *providerv1.ExecSpec) bool { return s.GetTimeout() == nil }

func stopIgnored(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if r, ok := req.(*providerv1.SignalExecRequest); ok && r.GetSignal() == providerv1.ExecSignal_EXEC_SIGNAL_STOP {
		return &providerv1.SignalExecResponse{}, nil
	}
	return handler(ctx, req)
}

func signalAfterEndRefused(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	r, ok := req.(*providerv1.SignalExecRequest)
	server, isServer := info.Server.(providerv1.ProviderServiceServer)
	if !ok || !isServer {
		return handler(ctx, req)
	}
	got, err := server.GetExec(ctx, &providerv1.GetExecRequest{Sandbox: r.GetSandbox(), ExecId: r.GetExecId()})
	if err == nil && got.GetExec().GetState() != execStateRunning {
		return nil, refuse(noSuchExec, "the command has ended")
	}
	return handler(ctx, req)
}
