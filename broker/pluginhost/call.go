package pluginhost

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/sandbar-dev/sandbar/broker/pluginhost/supervisor"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// farewellWait is how long a call whose connection broke waits for the
// supervisor to know how the process ended: the drain of its pipes, and a bit.
const farewellWait = drainTimeout + 500*time.Millisecond

// Invoke sends a unary call to the process that serves now. While one is being
// started it waits for it, within ctx. Otherwise it fails at once with
// PLUGIN_RESTARTING, which carries when to try again, or PLUGIN_QUARANTINED; both
// with effect none. If the process ends during the call the error is
// PLUGIN_CRASHED, with effect unknown, or PLUGIN_RESTARTING if the request was
// never sent. Those errors are *fault.Error; all others are the plugin's own, as
// they came.
func (p *Plugin) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	w, err := p.acquire(ctx)
	if err != nil {
		return err
	}
	var sentTo peer.Peer // filled in once the call is on a connection
	err = w.connection().Invoke(ctx, method, args, reply, append(opts[:len(opts):len(opts)], grpc.Peer(&sentTo))...)
	return p.explain(ctx, w, err, sentTo.Addr != nil)
}

// NewStream opens a stream to the process that serves now; see Invoke. A stream
// never moves to another process.
func (p *Plugin) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	w, err := p.acquire(ctx)
	if err != nil {
		return nil, err
	}
	s, err := w.connection().NewStream(ctx, desc, method, opts...)
	if err != nil {
		return nil, p.explain(ctx, w, err, false)
	}
	return &stream{ClientStream: s, ctx: ctx, plugin: p, worker: w}, nil
}

// Descriptor returns what the serving process says it can do, starting one if
// need be. The message must not be changed.
func (p *Plugin) Descriptor(ctx context.Context) (*providerv1.DescribeResponse, error) {
	w, err := p.acquire(ctx)
	if err != nil {
		return nil, err
	}
	return w.described(), nil
}

// Described returns what the latest process said it can do, or nil before the
// first one said anything. The message must not be changed.
func (p *Plugin) Described() *providerv1.DescribeResponse {
	if w := p.snapshot().worker; w != nil {
		return w.described()
	}
	return nil
}

// acquire returns the serving process, waiting for it while it starts.
func (p *Plugin) acquire(ctx context.Context) (worker, error) {
	for {
		v := p.snapshot()
		switch {
		case v.state.Serving():
			select {
			case <-v.worker.gone(): // the state is about to say so
			default:
				return v.worker, nil
			}
		case v.closed:
			return nil, p.closedError()
		case v.state == supervisor.Backoff:
			return nil, p.restarting(v)
		case v.state == supervisor.Quarantined:
			return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_QUARANTINED,
				"provider %q is quarantined: %s", p.name, v.reason).With("provider", p.name).With("why", v.reason)
		case v.state == supervisor.Stopped:
			select {
			case p.events <- supervisor.Want{}:
			case <-p.halt:
				return nil, p.closedError()
			case <-ctx.Done():
			}
		}
		select {
		case <-v.changed:
		case <-ctx.Done():
			return nil, fault.New(fault.From(ctx.Err()).Reason, "provider %q was not ready in time, it is %s: %w", p.name, v.state, ctx.Err()).
				With("provider", p.name).WithEffect(providerv1.Effect_EFFECT_NONE)
		}
	}
}

func (p *Plugin) closedError() *fault.Error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_DRAINING,
		"provider %q: the plugin host is closed", p.name).With("provider", p.name)
}

func (p *Plugin) restarting(v *view) *fault.Error {
	e := fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_RESTARTING,
		"provider %q is restarting: %s", p.name, v.reason).With("provider", p.name).With("why", v.reason)
	if wait := time.Until(v.wake); wait > 0 {
		e = e.WithRetryAfter(wait)
	}
	return e
}

// explain tells an error of the plugin from the loss of the plugin.
func (p *Plugin) explain(ctx context.Context, w worker, err error, sent bool) error {
	if err == nil || errors.Is(err, io.EOF) || ctx.Err() != nil {
		return err
	}
	st, ok := status.FromError(err)
	if !ok || !broken(st) {
		return err // it answered
	}
	timer := time.NewTimer(farewellWait)
	defer timer.Stop()
	words := "the connection broke: " + st.Message()
	select {
	case <-w.gone():
		words = w.farewell()
	case <-timer.C:
	case <-ctx.Done():
	}
	reason := providerv1.ErrorReason_ERROR_REASON_PLUGIN_CRASHED
	if !sent {
		reason = providerv1.ErrorReason_ERROR_REASON_PLUGIN_RESTARTING
	}
	return fault.New(reason, "provider %q was lost: %s", p.name, words).With("provider", p.name).With("why", words)
}

// broken reports whether a status is what grpc makes of a lost connection, or of
// one that was closed because the process had ended. A plugin's own answers carry
// details.
func broken(st *status.Status) bool {
	return (st.Code() == codes.Unavailable || st.Code() == codes.Canceled) && len(st.Details()) == 0
}

// stream explains the errors of one stream.
type stream struct {
	grpc.ClientStream
	// ctx is the caller's: the stream's own ends with the stream.
	ctx    context.Context //nolint:containedctx // it is the call's
	plugin *Plugin
	worker worker
}

func (s *stream) RecvMsg(m any) error {
	return s.plugin.explain(s.ctx, s.worker, s.ClientStream.RecvMsg(m), true)
}

func (s *stream) SendMsg(m any) error {
	return s.plugin.explain(s.ctx, s.worker, s.ClientStream.SendMsg(m), true)
}
