package fault

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Domain is ErrorInfo.domain of every error of the contract.
const Domain = "sandbar.provider.v1"

// Metadata keys that have a meaning of their own.
const (
	// MetaEffect holds none, unknown or applied.
	MetaEffect = "effect"
	// MetaField holds the path of the offending request field.
	MetaField = "field"
	// MetaCapability holds the capability id that is missing.
	MetaCapability = "capability"
)

// Error is an error of the contract.
type Error struct {
	// Reason is never UNSPECIFIED in an error made by New.
	Reason providerv1.ErrorReason
	// Message is one sentence for people. It never holds a secret or a stack.
	Message string
	// Metadata holds every variable of Message; MetaEffect is kept in Effect.
	Metadata map[string]string
	// Effect says whether anything may have happened.
	Effect providerv1.Effect
	// RetryAfter is how long to wait before trying again; zero means unsaid.
	RetryAfter time.Duration
	// Fields lists all violations for FIELD_INVALID.
	Fields []Violation
	// Wire is true if the peer said it, false if this side concluded it.
	Wire bool

	cause error
}

// Violation is one wrong field.
type Violation struct {
	// Field is a path such as spec.resources.memory_bytes.
	Field string
	// Description says what is wrong and what would be right.
	Description string
}

// New returns an error with the effect that its reason implies. A %w verb in
// format keeps the cause for errors.Is on this side of the wire.
func New(reason providerv1.ErrorReason, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{
		Reason:  reason,
		Message: err.Error(),
		Effect:  InfoOf(reason).GetEffect(),
		cause:   errors.Unwrap(err),
	}
}

// Field returns FIELD_INVALID for one field. want says what would be right.
func Field(field, value, want string) *Error {
	e := New(providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID, "%s is %q: %s", field, value, want)
	e.Fields = []Violation{{Field: field, Description: want}}
	return e.With(MetaField, field).With("value", value)
}

// Unsupported returns CAPABILITY_NOT_SUPPORTED for a capability id.
func Unsupported(capability string) *Error {
	return New(providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED,
		"capability %s is not supported", capability).With(MetaCapability, capability)
}

// With returns a copy with one more metadata entry.
func (e *Error) With(key, value string) *Error {
	c := *e
	c.Metadata = maps.Clone(e.Metadata)
	if c.Metadata == nil {
		c.Metadata = make(map[string]string, 1)
	}
	c.Metadata[key] = value
	return &c
}

// WithEffect returns a copy that states the effect.
func (e *Error) WithEffect(effect providerv1.Effect) *Error {
	c := *e
	c.Effect = effect
	return &c
}

// WithRetryAfter returns a copy that says how long to wait.
func (e *Error) WithRetryAfter(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// Error returns the message alone: it is what a user reads.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause on this side of the wire, or nil.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is an *Error with the same reason, so that
// errors.Is(err, fault.New(reason, "")) works; prefer Has.
func (e *Error) Is(target error) bool {
	var t *Error
	return errors.As(target, &t) && t.Reason == e.Reason && t.Message == ""
}

// Code returns the gRPC code that belongs to the reason.
func (e *Error) Code() codes.Code { return CodeOf(e.Reason) }

// Retry says when the same call may be sent to the same provider again.
func (e *Error) Retry() providerv1.Retry { return InfoOf(e.Reason).GetRetry() }

// Elsewhere reports whether another provider may be tried. With an unknown or
// applied effect the answer is no until the first attempt has been settled.
func (e *Error) Elsewhere() bool {
	return InfoOf(e.Reason).GetElsewhere() && e.Effect == providerv1.Effect_EFFECT_NONE
}

// Has reports whether err is, or wraps, an *Error with the given reason.
func Has(err error, reason providerv1.ErrorReason) bool {
	var e *Error
	return errors.As(err, &e) && e.Reason == reason
}

// Name returns the reason as it stands on the wire, without the enum's prefix.
func Name(reason providerv1.ErrorReason) string {
	return strings.TrimPrefix(reason.String(), "ERROR_REASON_")
}

// Reason returns the reason with the given wire name, or UNSPECIFIED.
func Reason(name string) providerv1.ErrorReason {
	return providerv1.ErrorReason(providerv1.ErrorReason_value["ERROR_REASON_"+name])
}

// EffectName returns the metadata form of an effect: none, unknown or applied.
func EffectName(effect providerv1.Effect) string {
	return strings.ToLower(strings.TrimPrefix(effect.String(), "EFFECT_"))
}
