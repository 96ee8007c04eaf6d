package subject

import (
	"context"
	"time"

	"google.golang.org/grpc"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// Kind tells the targets apart.
type Kind string

// The kinds. Only results of Binary and Broker can be published.
const (
	Binary    Kind = "binary"
	InProcess Kind = "in_process"
	Broker    Kind = "broker"
)

// Target opens instances of one provider. It is safe for concurrent use.
type Target interface {
	Kind() Kind
	// About says what is tested, for the report.
	About(context.Context) (About, error)
	// Open starts an instance, or connects to the one there is. The caller closes
	// it.
	Open(context.Context, OpenOptions) (*Instance, error)
	// Close removes what all instances shared.
	Close(context.Context) error
}

// About identifies what is tested.
type About struct {
	Name, Vendor, Version string
	// SHA256 is of the binary, in hex; empty where there is none to look at.
	SHA256 string
	// Manifest is of what the binary says of itself, in hex; empty likewise.
	Manifest string
	// Launcher says in a few words how it was run.
	Launcher string
}

// OpenOptions say how an instance is opened.
type OpenOptions struct {
	// Owner is what Configure is told.
	Owner string
	// StateDir is kept by an earlier instance, whose sandboxes this one is to
	// find. Empty: a new one.
	StateDir string
	// Unconfigured leaves Configure to the case.
	Unconfigured bool
	// Settings are added to the operator's, for cases about settings.
	Settings map[string]any
}

// Instance is one running plugin, or the connection to a broker.
type Instance struct {
	Conn grpc.ClientConnInterface
	// Describe is what it said after Configure, or before it with Unconfigured.
	Describe *providerv1.DescribeResponse
	// Process is nil unless the target is a binary.
	Process Process
	// StateDir can be given to another Open after Close; empty without one.
	StateDir string
	// Configuration is what it was configured with or, with Unconfigured, what it
	// is to be configured with; nil for a broker. Use a copy.
	Configuration *providerv1.ConfigureRequest
	// Manifest asks the binary for what it prints with --describe; nil unless the
	// target is a binary.
	Manifest func(context.Context) (handshake.Manifest, error)
	// Argv starts another process of the plugin, for cases that treat one as no
	// host does; nil unless the target is a binary.
	Argv []string

	close func(context.Context) error
}

// Wrap returns a target whose connections go through wrap.
func Wrap(target Target, wrap func(grpc.ClientConnInterface) grpc.ClientConnInterface) Target {
	return &wrappedTarget{Target: target, wrap: wrap}
}

type wrappedTarget struct {
	Target
	wrap func(grpc.ClientConnInterface) grpc.ClientConnInterface
}

// Open implements Target.
func (w *wrappedTarget) Open(ctx context.Context, opts OpenOptions) (*Instance, error) {
	inst, err := w.Target.Open(ctx, opts)
	if err != nil {
		return nil, err
	}
	inst.Conn = w.wrap(inst.Conn)
	return inst, nil
}

// Process is the operating system's side of a plugin. Its methods are safe for
// concurrent use.
type Process interface {
	// PID is of the process that serves now; 0 while there is none.
	PID() int
	// Kill ends it with SIGKILL, and returns when another serves in its place.
	Kill(context.Context) error
	// Stderr is the end of what it logged.
	Stderr() string
}

// NewInstance is for targets. close may be nil.
func NewInstance(conn grpc.ClientConnInterface, describe *providerv1.DescribeResponse, process Process, stateDir string,
	closeFunc func(context.Context) error,
) *Instance {
	return &Instance{Conn: conn, Describe: describe, Process: process, StateDir: stateDir, close: closeFunc}
}

// Close ends the instance. Sandboxes live on.
func (i *Instance) Close(ctx context.Context) error {
	if i.close == nil {
		return nil
	}
	return i.close(ctx)
}

// Has reports whether a capability is declared and not switched off.
func (i *Instance) Has(capability string) bool {
	for _, c := range i.Describe.GetCapabilities() {
		if c.GetId() == capability {
			return c.GetState() == providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED
		}
	}
	return false
}

// Limit is a numeric promise of a capability, or of the provider as a whole if
// capability is empty.
func (i *Instance) Limit(capability, name string) (int64, bool) {
	if capability == "" {
		n, ok := i.Describe.GetLimits()[name]
		return n, ok
	}
	for _, c := range i.Describe.GetCapabilities() {
		if c.GetId() == capability {
			n, ok := c.GetLimits()[name]
			return n, ok
		}
	}
	return 0, false
}

// Stderr is the end of what the plugin logged, where that can be seen.
func (i *Instance) Stderr() string {
	if i.Process == nil {
		return ""
	}
	return i.Process.Stderr()
}

// Deadline is what a unary call gets that has none of its own: long enough for a
// vendor across an ocean (Describe alone has a promise to keep).
func Deadline(method string) time.Duration {
	switch method {
	case providerv1.ProviderService_Describe_FullMethodName:
		return time.Second
	case providerv1.ProviderService_Probe_FullMethodName:
		return 10 * time.Second
	case providerv1.ProviderService_CreateSandbox_FullMethodName, providerv1.ProviderService_ForkSandbox_FullMethodName,
		providerv1.ProviderService_RestoreSnapshot_FullMethodName, providerv1.ProviderService_CreateSnapshot_FullMethodName,
		providerv1.ProviderService_PauseSandbox_FullMethodName, providerv1.ProviderService_ResumeSandbox_FullMethodName:
		return time.Minute
	}
	return 30 * time.Second
}
