package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// portable is the connection under the generated client.
type portable struct {
	name    string
	conn    Conn
	retry   Retry
	observe Observer
}

// Invoke sends one unary call, again where its reason allows.
func (c *portable) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, deadlineOf(method))
		defer cancel()
	}
	if err := c.check(ctx, method, args); err != nil {
		return err
	}
	// An attempt that may have had an effect is not undone by a later one that
	// surely had none.
	uncertain := false
	for attempt := 1; ; attempt++ {
		began := time.Now()
		err := convert(c.name, c.conn.Invoke(ctx, method, args, reply, opts...))
		if err == nil {
			c.observe.Call(ctx, c.name, method, time.Since(began), nil)
			return nil
		}
		c.observe.Call(ctx, c.name, method, time.Since(began), err)
		if err.Effect != providerv1.Effect_EFFECT_NONE {
			uncertain = true
		} else if uncertain {
			err = err.WithEffect(providerv1.Effect_EFFECT_UNKNOWN)
		}
		wait, again := c.again(method, attempt, err)
		if !again || err.Elsewhere() && elsewhere(opts) || !pause(ctx, wait) {
			return err
		}
	}
}

// orElsewhere is the option that OrElsewhere returns.
type orElsewhere struct{ grpc.EmptyCallOption }

// OrElsewhere is for a caller that has another provider to go to: a call that is
// proven to have had no effect, and may be tried elsewhere, is not repeated here.
func OrElsewhere() grpc.CallOption { return orElsewhere{} }

func elsewhere(opts []grpc.CallOption) bool {
	return slices.ContainsFunc(opts, func(o grpc.CallOption) bool {
		_, is := o.(orElsewhere)
		return is
	})
}

// check refuses before the network what the provider would have to refuse.
func (c *portable) check(ctx context.Context, method string, args any) error {
	msg, ok := args.(proto.Message)
	if !ok {
		return fmt.Errorf("call %s: %T is not a message", method, args)
	}
	if size := proto.Size(msg); size > handshake.MaxMessageBytes {
		return fault.Field("request", strconv.Itoa(size)+" bytes", "want at most "+strconv.Itoa(handshake.MaxMessageBytes)+" bytes")
	}
	if beforeDescribe[method] {
		return nil
	}
	described, err := c.conn.Descriptor(ctx)
	if err != nil {
		return convert(c.name, err)
	}
	return NewSet(described).Check(method, msg)
}

// again decides whether a failed attempt is followed by another, and when.
func (c *portable) again(method string, attempt int, err *fault.Error) (time.Duration, bool) {
	if attempt >= c.retry.Attempts {
		return 0, false
	}
	mayHaveHappened := err.Effect != providerv1.Effect_EFFECT_NONE
	switch err.Retry() {
	case providerv1.Retry_RETRY_BACKOFF, providerv1.Retry_RETRY_SAME_KEY:
		if mayHaveHappened && onceOnly[method] {
			return 0, false
		}
	default:
		return 0, false
	}
	if internal(err) && attempt > 1 { // a bug seldom goes away
		return 0, false
	}
	if err.RetryAfter > 0 {
		return err.RetryAfter, true
	}
	limit := c.retry.Max
	if attempt < 30 { // a larger shift overflows
		limit = min(limit, c.retry.Base<<(attempt-1))
	}
	return rand.N(limit + 1), true //nolint:gosec // spreads load, guards nothing
}

func internal(err *fault.Error) bool {
	return err.Reason == providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG ||
		err.Reason == providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL
}

// pause waits; false if the call's time would be over before the wait.
func pause(ctx context.Context, wait time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// NewStream opens a stream. Streams have no deadline of their own and are never
// opened again here: only whoever reads one knows where to go on.
func (c *portable) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	described, err := c.conn.Descriptor(ctx)
	if err != nil {
		return nil, convert(c.name, err)
	}
	set := NewSet(described)
	if err := set.Check(method, nil); err != nil {
		return nil, err
	}
	s, err := c.conn.NewStream(ctx, desc, method, opts...)
	c.observe.Open(ctx, c.name, method, err)
	if err != nil {
		return nil, convert(c.name, err)
	}
	return &stream{ClientStream: s, name: c.name, set: set}, nil
}

// stream checks what is sent and converts what fails.
type stream struct {
	grpc.ClientStream
	name string
	set  Set
}

func (s *stream) SendMsg(m any) error {
	if msg, ok := m.(proto.Message); ok {
		if err := s.set.Check("", msg); err != nil {
			return err
		}
	}
	return s.convert(s.ClientStream.SendMsg(m))
}

func (s *stream) RecvMsg(m any) error { return s.convert(s.ClientStream.RecvMsg(m)) }

func (s *stream) convert(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return convert(s.name, err)
}
