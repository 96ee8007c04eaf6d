package stage

import (
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
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

// ProperError checks what the contract demands of every error, as it came over the
// wire: what is missing there is not made up here.
func ProperError(t *engine.T, what string, err error) {
	said := errorInfo(err)
	if said == nil {
		t.Errorf("%s: %s: want google.rpc.ErrorInfo with domain %s", what, subject.Describe(err), fault.Domain)
		return
	}
	reason := fault.Reason(said.GetReason())
	info := fault.InfoOf(reason)
	switch {
	case info == nil:
		t.Errorf("%s: reason %q: want one of the registry", what, said.GetReason())
		return
	case info.GetBrokerOnly() && t.Target().Kind() != subject.Broker:
		t.Errorf("%s: %s: only a broker says that", what, subject.Describe(err))
	}
	if code := status.Code(err); code != fault.CodeOf(reason) {
		t.Errorf("%s: code %s with reason %s: want code %s", what, code, said.GetReason(), fault.CodeOf(reason))
	}
	switch effect := said.GetMetadata()[fault.MetaEffect]; effect {
	case "none", "unknown", "applied":
	default:
		t.Errorf("%s: %s: metadata[effect] is %q: want none, unknown or applied", what, said.GetReason(), effect)
	}
	if message := status.Convert(err).Message(); message == "" || strings.Contains(message, "goroutine ") || strings.Contains(message, ".go:") {
		t.Errorf("%s: message %q: want one sentence for people", what, message)
	}
}

// errorInfo is what an error carries of the contract's domain, or nil.
func errorInfo(err error) *errdetails.ErrorInfo {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == fault.Domain {
			return info
		}
	}
	return nil
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
