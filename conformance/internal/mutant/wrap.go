package mutant

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// client is the untouched provider behind a wrapping mutant, which uses it to do
// the damage.
type client = providerv1.ProviderServiceClient

// wrapping makes a mutant between suite and provider. fresh returns its hooks, by
// method; what they remember lives as long as the connection.
func wrapping(fresh func() map[string]hook) func(grpc.ClientConnInterface) grpc.ClientConnInterface {
	return func(conn grpc.ClientConnInterface) grpc.ClientConnInterface {
		return &wrapped{ClientConnInterface: conn, hooks: fresh()}
	}
}

// hook replaces a unary call. next makes the real one with a request and fills in
// the reply.
type hook func(ctx context.Context, c client, req, reply proto.Message, next func(proto.Message) error) error

type wrapped struct {
	grpc.ClientConnInterface
	hooks map[string]hook
}

// Invoke implements grpc.ClientConnInterface.
func (w *wrapped) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	h := w.hooks[method[strings.LastIndexByte(method, '/')+1:]]
	req, isMessage := args.(proto.Message)
	out, fills := reply.(proto.Message)
	if h == nil || !isMessage || !fills {
		return w.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
	}
	return h(ctx, providerv1.NewProviderServiceClient(w.ClientConnInterface), req, out, func(m proto.Message) error {
		return w.ClientConnInterface.Invoke(ctx, method, m, reply, opts...)
	})
}

// before makes a hook that changes a copy of the request.
func before[Req proto.Message](change func(ctx context.Context, c client, req Req)) hook {
	return func(ctx context.Context, c client, req, _ proto.Message, next func(proto.Message) error) error {
		m, ok := proto.Clone(req).(Req)
		if !ok {
			return next(req)
		}
		change(ctx, c, m)
		return next(m)
	}
}

// after makes a hook that does something when the call has succeeded.
func after[Req, Resp proto.Message](do func(ctx context.Context, c client, req Req, resp Resp)) hook {
	return func(ctx context.Context, c client, req, reply proto.Message, next func(proto.Message) error) error {
		if err := next(req); err != nil {
			return err
		}
		in, okIn := req.(Req)
		out, okOut := reply.(Resp)
		if okIn && okOut {
			do(ctx, c, in, out)
		}
		return nil
	}
}

// refuse is an error as it comes over the wire.
func refuse(reason providerv1.ErrorReason, text string) error {
	return fault.New(reason, "%s", text).GRPCStatus().Err()
}

// inside runs a script in a sandbox to its end.
func inside(ctx context.Context, c client, id, script string) {
	req := &providerv1.StartExecRequest{
		Sandbox: ref(id), ExecId: stage.NewID("exe"), RequestDigest: make([]byte, 32), Spec: stage.Script(script),
	}
	if _, err := c.StartExec(ctx, req); err != nil {
		return
	}
	stream, err := c.AttachExec(ctx)
	if err != nil {
		return
	}
	open := &providerv1.ExecOpen{Sandbox: req.GetSandbox(), ExecId: req.GetExecId()}
	_ = stream.Send(&providerv1.AttachExecRequest{Input: &providerv1.ExecInput{Frame: &providerv1.ExecInput_Open{Open: open}}})
	for {
		if _, err := stream.Recv(); err != nil {
			return
		}
	}
}

// killAll ends every command in a sandbox for which which is true.
func killAll(ctx context.Context, c client, id string, which func(*providerv1.Exec) bool) {
	resp, err := c.ListExecs(ctx, &providerv1.ListExecsRequest{Sandbox: ref(id)})
	if err != nil {
		return
	}
	for _, e := range resp.GetExecs() {
		if which == nil || which(e) {
			_, _ = c.SignalExec(ctx, &providerv1.SignalExecRequest{Sandbox: ref(id), ExecId: e.GetExecId(), Signal: providerv1.ExecSignal_EXEC_SIGNAL_KILL})
		}
	}
}

func ref(id string) *providerv1.SandboxRef { return &providerv1.SandboxRef{SandboxId: id} }

// memory is what a wrapping mutant remembers of sandboxes, safe for concurrent
// use.
type memory[V any] struct {
	lock   chan struct{}
	values map[string]V
}

func newMemory[V any]() *memory[V] {
	return &memory[V]{lock: make(chan struct{}, 1), values: map[string]V{}}
}

// change replaces the value under a key and returns the new one.
func (m *memory[V]) change(key string, f func(V) V) V {
	m.lock <- struct{}{}
	defer func() { <-m.lock }()
	m.values[key] = f(m.values[key])
	return m.values[key]
}

func (m *memory[V]) set(key string, v V) { m.change(key, func(V) V { return v }) }
func (m *memory[V]) get(key string) V    { return m.change(key, func(v V) V { return v }) }
