package fault

import (
	"context"
	"errors"
	"maps"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// GRPCStatus makes grpc-go send the error with its details.
func (e *Error) GRPCStatus() *status.Status {
	st := status.New(e.Code(), e.Message)
	with, err := st.WithDetails(e.details()...)
	if err != nil { // only for code OK, which no reason has
		return st
	}
	return with
}

// Details returns the status details: ErrorInfo, and BadRequest and RetryInfo
// where they apply.
func (e *Error) Details() []proto.Message {
	meta := maps.Clone(e.Metadata)
	if meta == nil {
		meta = make(map[string]string, 1)
	}
	if e.Effect != providerv1.Effect_EFFECT_UNSPECIFIED {
		meta[MetaEffect] = EffectName(e.Effect)
	}
	out := []proto.Message{&errdetails.ErrorInfo{Reason: Name(e.Reason), Domain: Domain, Metadata: meta}}
	if len(e.Fields) > 0 {
		bad := &errdetails.BadRequest{}
		for _, v := range e.Fields {
			bad.FieldViolations = append(bad.FieldViolations,
				&errdetails.BadRequest_FieldViolation{Field: v.Field, Description: v.Description})
		}
		out = append(out, bad)
	}
	if e.RetryAfter > 0 {
		out = append(out, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	return out
}

func (e *Error) details() []protoadapt.MessageV1 {
	msgs := e.Details()
	out := make([]protoadapt.MessageV1, len(msgs))
	for i, m := range msgs {
		out[i] = protoadapt.MessageV1Of(m)
	}
	return out
}

// From returns the *Error in err. A gRPC status without our ErrorInfo, and any
// other error, becomes the nearest reason with Wire false: the peer did not say
// it. From(nil) is nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	if st, ok := status.FromError(err); ok {
		return FromStatus(st)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return wrap(providerv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED, err)
	case errors.Is(err, context.Canceled):
		return wrap(providerv1.ErrorReason_ERROR_REASON_CANCELED, err)
	}
	return wrap(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG, err)
}

func wrap(reason providerv1.ErrorReason, err error) *Error {
	e := New(reason, "%s", err.Error())
	e.cause = err
	return e
}

// FromStatus converts a gRPC status; see From. It returns nil for code OK.
func FromStatus(st *status.Status) *Error {
	if st.Code() == codes.OK {
		return nil
	}
	return FromDetails(st.Code(), st.Message(), st.Details())
}

// FromDetails converts a code, a message and decoded details, in whatever
// protocol they came.
func FromDetails(code codes.Code, message string, details []any) *Error {
	var info *errdetails.ErrorInfo
	e := &Error{Message: message}
	for _, d := range details {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == Domain {
				info = d
			}
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				e.Fields = append(e.Fields, Violation{Field: v.GetField(), Description: v.GetDescription()})
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	if info == nil {
		e.Reason = reasonForCode(code)
		e.Effect = InfoOf(e.Reason).GetEffect()
		return e
	}
	e.Wire = true
	e.Reason = Reason(info.GetReason())
	if e.Reason == providerv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
		// A reason newer than this build: keep the class its code implies.
		e.Reason = reasonForCode(code)
	}
	e.Effect = InfoOf(e.Reason).GetEffect()
	e.setMetadata(info.GetMetadata())
	return e
}

func (e *Error) setMetadata(meta map[string]string) {
	e.Metadata = maps.Clone(meta)
	switch e.Metadata[MetaEffect] {
	case "none":
		e.Effect = providerv1.Effect_EFFECT_NONE
	case "unknown":
		e.Effect = providerv1.Effect_EFFECT_UNKNOWN
	case "applied":
		e.Effect = providerv1.Effect_EFFECT_APPLIED
	}
	delete(e.Metadata, MetaEffect)
}

// reasonForCode picks the most careful reason of a class, for peers that sent no
// ErrorInfo: an effect that was not denied counts as unknown.
func reasonForCode(code codes.Code) providerv1.ErrorReason {
	switch code {
	case codes.Canceled:
		return providerv1.ErrorReason_ERROR_REASON_CANCELED
	case codes.DeadlineExceeded:
		return providerv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED
	case codes.Unavailable:
		return providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE
	case codes.Aborted:
		return providerv1.ErrorReason_ERROR_REASON_OPERATION_IN_PROGRESS
	default:
		return providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG
	}
}

// ToProto returns the error as a message for places where an error travels
// inside a message.
func (e *Error) ToProto() *providerv1.Fault {
	f := &providerv1.Fault{
		Code:     int32(e.Code()),
		Reason:   e.Reason,
		Message:  e.Message,
		Metadata: maps.Clone(e.Metadata),
	}
	if e.Effect != providerv1.Effect_EFFECT_UNSPECIFIED {
		if f.Metadata == nil {
			f.Metadata = make(map[string]string, 1)
		}
		f.Metadata[MetaEffect] = EffectName(e.Effect)
	}
	if e.RetryAfter > 0 {
		f.RetryAfter = durationpb.New(e.RetryAfter)
	}
	return f
}

// FromProto converts back. It returns nil for nil.
func FromProto(f *providerv1.Fault) *Error {
	if f == nil {
		return nil
	}
	e := &Error{Reason: f.GetReason(), Message: f.GetMessage(), RetryAfter: f.GetRetryAfter().AsDuration(), Wire: true}
	if InfoOf(e.Reason) == nil {
		e.Reason = reasonForCode(codes.Code(f.GetCode()))
	}
	e.Effect = InfoOf(e.Reason).GetEffect()
	e.setMetadata(f.GetMetadata())
	return e
}
