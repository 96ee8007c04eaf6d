package provider

import (
	"time"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Deadlines of calls whose caller set none.
const (
	describeDeadline = time.Second      // it is pure
	probeDeadline    = 10 * time.Second // a handful of requests to the vendor
	defaultDeadline  = 30 * time.Second // one request to the vendor, slowly answered
	makeDeadline     = time.Minute      // whatever moves memory and disks
)

var deadlines = map[string]time.Duration{
	providerv1.ProviderService_Describe_FullMethodName:        describeDeadline,
	providerv1.ProviderService_Probe_FullMethodName:           probeDeadline,
	providerv1.ProviderService_CreateSandbox_FullMethodName:   makeDeadline,
	providerv1.ProviderService_RestoreSnapshot_FullMethodName: makeDeadline,
	providerv1.ProviderService_CreateSnapshot_FullMethodName:  makeDeadline,
	providerv1.ProviderService_ForkSandbox_FullMethodName:     makeDeadline,
	providerv1.ProviderService_PauseSandbox_FullMethodName:    makeDeadline,
	providerv1.ProviderService_ResumeSandbox_FullMethodName:   makeDeadline,
}

func deadlineOf(method string) time.Duration {
	if d, ok := deadlines[method]; ok {
		return d
	}
	return defaultDeadline
}

// onceOnly lists the unary calls that must not be sent again when an earlier
// attempt may have had an effect: doing it twice is not the same as doing it
// once. All others read, name a final state, or carry an idempotency key.
var onceOnly = map[string]bool{
	providerv1.ProviderService_SignalExec_FullMethodName:    true, // two signals are two signals
	providerv1.ProviderService_MoveFile_FullMethodName:      true, // the second finds nothing to move
	providerv1.ProviderService_RemoveFile_FullMethodName:    true, // may remove what was made since
	providerv1.ProviderService_MakeDirectory_FullMethodName: true, // the second finds it made
	providerv1.ProviderService_PauseSandbox_FullMethodName:  true, // the second finds it paused
	providerv1.ProviderService_ResumeSandbox_FullMethodName: true, // the second finds it running
	providerv1.ProviderService_CreateVolume_FullMethodName:  true, // has no key
}

// beforeDescribe lists the calls that need no capability by definition, so that
// they do not wait for a description.
var beforeDescribe = map[string]bool{
	providerv1.ProviderService_Describe_FullMethodName:  true,
	providerv1.ProviderService_Configure_FullMethodName: true,
	providerv1.ProviderService_Probe_FullMethodName:     true,
	providerv1.ProviderService_Drain_FullMethodName:     true,
}
