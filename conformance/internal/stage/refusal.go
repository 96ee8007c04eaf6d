package stage

import (
	"slices"
	"strings"

	"google.golang.org/grpc/status"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Refused checks that a call was refused for one of the given reasons, and
// properly; what is the call, for the message. It returns the error, or ends the
// case if there is none.
func Refused(t *engine.T, what string, err error, reasons ...providerv1.ErrorReason) *fault.Error {
	want := names(reasons)
	if err == nil {
		t.Fatalf("%s succeeded: want %s", what, want)
	}
	f := fault.From(err)
	if !slices.Contains(reasons, f.Reason) {
		t.Fatalf("%s: %s: want %s", what, subject.Describe(err), want)
	}
	ProperError(t, what, err)
	return f
}

func names(reasons []providerv1.ErrorReason) string {
	out := make([]string, len(reasons))
	for i, r := range reasons {
		out[i] = fault.Name(r)
	}
	return strings.Join(out, " or ")
}

// ProperError checks what the contract demands of every error.
func ProperError(t *engine.T, what string, err error) {
	f := fault.From(err)
	info := fault.InfoOf(f.Reason)
	switch {
	case !f.Wire:
		t.Errorf("%s: %s: want google.rpc.ErrorInfo with domain %s", what, subject.Describe(err), fault.Domain)
		return
	case info == nil:
		t.Errorf("%s: %s: want a reason of the registry", what, subject.Describe(err))
		return
	case info.GetBrokerOnly() && t.Target().Kind() != subject.Broker:
		t.Errorf("%s: %s: only a broker says that", what, subject.Describe(err))
	}
	if code := status.Code(err); code != f.Code() {
		t.Errorf("%s: code %s with reason %s: want code %s", what, code, fault.Name(f.Reason), f.Code())
	}
	if f.Effect == providerv1.Effect_EFFECT_UNSPECIFIED {
		t.Errorf("%s: %s: want metadata[effect] to be none, unknown or applied", what, subject.Describe(err))
	}
	if f.Message == "" || strings.Contains(f.Message, "goroutine ") || strings.Contains(f.Message, ".go:") {
		t.Errorf("%s: message %q: want one sentence for people", what, f.Message)
	}
}

// NoEffect checks that an error promises that nothing happened.
func NoEffect(t *engine.T, what string, f *fault.Error) {
	if f.Effect != providerv1.Effect_EFFECT_NONE {
		t.Errorf("%s: effect %s: want none", what, fault.EffectName(f.Effect))
	}
}

// Names checks that an error's metadata has a value under a key.
func Names(t *engine.T, what string, f *fault.Error, key, value string) {
	if got := f.Metadata[key]; got != value {
		t.Errorf("%s: metadata[%s] is %q: want %q", what, key, got, value)
	}
}

// OK ends the case if a call failed.
func OK(t *engine.T, what string, err error) {
	if err != nil {
		t.Fatalf("%s: %s: want success", what, subject.Describe(err))
	}
}

// LostIsProper checks an error that ended an attachment which had begun: it may
// say that the way to the command was lost, and nothing about the command.
func LostIsProper(t *engine.T, what string, f *fault.Error) {
	if fault.InfoOf(f.Reason) == nil || f.Message == "" {
		t.Errorf("%s ended with %s: want a reason of the registry and a message", what, subject.Describe(f))
	}
}
