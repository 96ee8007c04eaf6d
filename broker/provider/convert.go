package provider

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// convert is the border between a plugin's errors and the broker's. A plugin
// that breaks the contract of errors has a bug, and nothing it says about effects
// is believed.
func convert(name string, err error) *fault.Error {
	e := fault.From(err)
	if e == nil {
		return nil
	}
	switch {
	case e.Wire && fault.InfoOf(e.Reason).GetBrokerOnly():
		e = fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG,
			"provider %q answered %s, which only a broker may say: %s", name, fault.Name(e.Reason), e.Message).
			With("reason", fault.Name(e.Reason)).With("message", e.Message)
	case !e.Wire && bare(err):
		e = fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG,
			"provider %q answered %s without a reason: %s", name, status.Code(err), e.Message).
			With("code", status.Code(err).String()).With("message", e.Message)
	}
	if e.Metadata["provider"] == "" {
		e = e.With("provider", name)
	}
	return e
}

// bare reports whether err is a status that a plugin must not send without
// details. The transport itself makes statuses of the other codes.
func bare(err error) bool {
	switch status.Code(err) {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable:
		return false
	default:
		_, is := status.FromError(err)
		return is
	}
}
