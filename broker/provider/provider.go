package provider

import (
	"context"
	"time"

	"google.golang.org/grpc"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Conn is a connection to a provider plugin; *pluginhost.Plugin is one.
type Conn interface {
	grpc.ClientConnInterface
	// Descriptor returns what the provider says it can do. It may wait for the
	// plugin to start.
	Descriptor(ctx context.Context) (*providerv1.DescribeResponse, error)
	// Described returns what it said last, or nil if it never spoke.
	Described() *providerv1.DescribeResponse
}

// Options of a Provider.
type Options struct {
	// Retry bounds repeated attempts. Zero values: 5 attempts, waits of up to
	// 100 ms doubling to 5 s.
	Retry Retry
	// Observe, if not nil, is told of each attempt of a call. It may be called by
	// several goroutines.
	Observe Observer
}

// Observer is told of calls; methods are the full ones of gRPC.
type Observer interface {
	// Call is one attempt of a unary call.
	Call(ctx context.Context, provider, method string, took time.Duration, err error)
	// Open is an attempt to open a stream.
	Open(ctx context.Context, provider, method string, err error)
}

type blind struct{}

func (blind) Call(context.Context, string, string, time.Duration, error) {}

func (blind) Open(context.Context, string, string, error) {}

// Retry bounds repeated attempts of one call. The deadline of the call bounds
// them too.
type Retry struct {
	// Attempts counts the first one; 1 switches retries off.
	Attempts int
	// Base and Max bound the random wait before attempt n+1: at most Base·2ⁿ and
	// at most Max. A provider that says how long to wait is believed.
	Base, Max time.Duration
}

// Provider is one provider, whatever it is.
type Provider struct {
	// The contract's methods. Errors are *fault.Error.
	providerv1.ProviderServiceClient

	name string
	conn Conn
}

// New returns a provider over conn, which stays the caller's to close.
func New(name string, conn Conn, opts Options) *Provider {
	r := &opts.Retry
	if r.Attempts <= 0 {
		r.Attempts = 5
	}
	if r.Base <= 0 {
		r.Base = 100 * time.Millisecond
	}
	if r.Max <= 0 {
		r.Max = 5 * time.Second
	}
	if opts.Observe == nil {
		opts.Observe = blind{}
	}
	wrapped := &portable{name: name, conn: conn, retry: opts.Retry, observe: opts.Observe}
	return &Provider{ProviderServiceClient: providerv1.NewProviderServiceClient(wrapped), name: name, conn: conn}
}

// Name returns the provider's name.
func (p *Provider) Name() string { return p.name }

// Description returns what the provider says about itself, waiting for it to
// start if it has not.
func (p *Provider) Description(ctx context.Context) (*providerv1.DescribeResponse, error) {
	d, err := p.conn.Descriptor(ctx)
	if err != nil {
		return nil, convert(p.name, err)
	}
	return d, nil
}

// Described returns what the provider said about itself last, or nil if it never
// spoke. It does not wait.
func (p *Provider) Described() *providerv1.DescribeResponse { return p.conn.Described() }

// Capabilities returns what the provider declares, waiting for it to start if it
// has not.
func (p *Provider) Capabilities(ctx context.Context) (Set, error) {
	d, err := p.Description(ctx)
	return NewSet(d), err
}

// Supports reports whether the provider declares a capability and has it switched
// on, from what it said last. It does not wait: of a provider that never spoke it
// is false.
func (p *Provider) Supports(capability string) bool {
	return NewSet(p.conn.Described()).Has(capability)
}
