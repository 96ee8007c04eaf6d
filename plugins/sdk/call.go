package sdk

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// The driver's deadline lies before the caller's by a tenth of the time left, at
// most maxMargin, so that there is time to say what happened.
const (
	marginPart = 10
	maxMargin  = 500 * time.Millisecond
)

// unary is the way of every unary call: in flight, admitted, run under a
// deadline and a panic guard, and its error turned into the contract's.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	method := methodOf(info.FullMethod)
	if err := s.admit(ctx, method, req); err != nil {
		return nil, s.refusal(err)
	}
	leave := func() {} // a Drain does not wait for itself
	if method.name != "Drain" {
		var ok bool
		if leave, ok = s.inflight.enter(method.newWork); !ok {
			return nil, s.refusal(errDraining())
		}
	}
	return s.run(ctx, method, req, handler, leave)
}

// admit refuses what the driver must never see. Capabilities come first: their
// refusal does not depend on the rest of the request being right.
func (s *Server) admit(ctx context.Context, m method, req any) error {
	if _, ok := ctx.Deadline(); !ok {
		return fault.Field("deadline", "", "want a deadline on every unary call")
	}
	if err := s.described.Load().gate(m.full, req); err != nil {
		return err
	}
	if !m.unconfigured && !s.configured.Load() {
		return errNotConfigured()
	}
	return validate(req)
}

func errNotConfigured() *fault.Error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_NOT_CONFIGURED,
		"the provider has not been configured; call Configure first")
}

type outcome struct {
	resp any
	err  error
}

// run calls the handler in a goroutine of its own, so that a driver which
// ignores its context cannot keep the caller from an answer. The call counts as
// in flight until the driver returns.
func (s *Server) run(ctx context.Context, m method, req any, handler grpc.UnaryHandler, leave func()) (any, error) {
	deadline, _ := ctx.Deadline()
	left := time.Until(deadline)
	margin := min(left/marginPart, maxMargin)
	driverCtx, cancel := context.WithDeadline(ctx, deadline.Add(-margin))
	done := make(chan outcome, 1)
	s.wg.Go(func() {
		defer leave()
		defer cancel()
		var out outcome
		out.err = s.guarded(func() (err error) {
			out.resp, err = s.denied.guard(driverCtx, req, handler)
			return err
		})
		done <- out
	})
	var out outcome
	select {
	case out = <-done:
	case <-driverCtx.Done():
		out = s.lastWord(ctx, driverCtx, done, margin)
	}
	if out.err != nil {
		return nil, s.convert(m, out.err)
	}
	return out.resp, nil
}

// lastWord gives a driver that honours its context half of the margin to answer
// more precisely than the SDK could.
func (s *Server) lastWord(ctx, driverCtx context.Context, done <-chan outcome, margin time.Duration) outcome {
	timer := time.NewTimer(margin / 2)
	defer timer.Stop()
	select {
	case out := <-done:
		return out
	case <-timer.C:
	case <-ctx.Done():
	}
	return outcome{err: driverCtx.Err()}
}

// convert turns a driver's error into the contract's: context errors with the
// effect that the method may have had, faults as they are, and all else as a bug.
func (s *Server) convert(m method, err error) error {
	e := carried(err)
	switch {
	case e != nil:
		if fault.InfoOf(e.Reason).GetBrokerOnly() || fault.InfoOf(e.Reason) == nil {
			s.log.Error("the driver used a reason that is not a plugin's", "method", m.name, "reason", fault.Name(e.Reason))
			e = bug("the driver answered with reason %s, which is the broker's", fault.Name(e.Reason))
		}
	case cut(err, codes.DeadlineExceeded, context.DeadlineExceeded):
		e = fault.New(providerv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED, "%s did not finish before its deadline", m.name).
			With("method", m.name).WithEffect(m.effect)
	case cut(err, codes.Canceled, context.Canceled):
		e = fault.New(providerv1.ErrorReason_ERROR_REASON_CANCELED, "%s was cancelled", m.name).
			With("method", m.name).WithEffect(m.effect)
	default:
		s.log.Error("the driver returned an error without a reason", "method", m.name, "error", s.secrets.Load().redact(err.Error()))
		e = bug("%s failed: %s", m.name, err.Error()).With("method", m.name).WithEffect(m.effect)
	}
	return s.refusal(e)
}

// carried returns the fault in err: the driver's own, or one that a nested server
// of the contract, such as a shim, sent. A bare status of a stream that ended is
// the context's error.
func carried(err error) *fault.Error {
	var e *fault.Error
	if errors.As(err, &e) {
		return e
	}
	st, ok := status.FromError(err)
	if !ok {
		return nil
	}
	if e = fault.FromStatus(st); e != nil && e.Wire {
		return e
	}
	return nil
}

func cut(err error, code codes.Code, cause error) bool {
	return errors.Is(err, cause) || status.Code(err) == code
}

func bug(format string, args ...any) *fault.Error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG, format, args...)
}

// refusal is the last step of every error: secrets out, status on.
func (s *Server) refusal(err error) error {
	return s.secrets.Load().clean(fault.From(err)).GRPCStatus().Err()
}
