package client

import (
	"context"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/broker/api/batch"
	"github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1/brokerv1connect"
	"github.com/sandbar-dev/sandbar/proto/tracing"
)

// readMax bounds one message from the broker: listings are paged and everything
// large is streamed in small frames, so more is a broken peer.
const readMax = 16 << 20

// Client speaks to one broker.
type Client struct {
	brokerv1connect.SandboxServiceClient
	// Admin is about the broker itself.
	Admin brokerv1connect.AdminServiceClient
	// Access is about callers.
	Access brokerv1connect.AccessServiceClient
	// Webhooks is about URLs that are told of events.
	Webhooks brokerv1connect.WebhookServiceClient

	address   Address
	transport *http.Transport
	spans     *spans
}

// Options are what New can do without.
type Options struct {
	// APIKey authenticates every request; empty for a Unix socket.
	APIKey string
	// Tenant that every call is for; empty: the caller's own.
	Tenant string
	// Version is the CLI's own version, sent as the user agent.
	Version string
	// Tracer makes a span of each call; nil: nobody does.
	Tracer *tracing.Tracer
}

// New returns a client. It connects with the first call.
func New(address Address, options Options) *Client {
	t := &http.Transport{
		ForceAttemptHTTP2:   true,
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     90 * time.Second,
		Proxy:               http.ProxyFromEnvironment,
		// A peer that vanished without a word is noticed by pings.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 20 * time.Second, PingTimeout: 10 * time.Second},
	}
	base := address.URL
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	t.DialContext = dialer.DialContext
	if address.Socket != "" {
		base = "http://sandbar.local"
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", address.Socket)
		}
	}
	if t.Protocols = new(http.Protocols); base[:5] == "http:" {
		t.Protocols.SetUnencryptedHTTP2(true)
	} else {
		t.Protocols.SetHTTP2(true)
	}
	spans := &spans{tracer: options.Tracer}
	opts := []connect.ClientOption{
		connect.WithGRPC(),
		connect.WithReadMaxBytes(readMax),
		connect.WithInterceptors(&interceptor{address: address, options: options, spans: spans}),
		// A broker that compressed a command's output would spend most of its time on
		// that.
		connect.WithAcceptCompression("gzip", nil, nil),
	}
	h := &http.Client{Transport: batch.Transport(t)}
	return &Client{
		SandboxServiceClient: brokerv1connect.NewSandboxServiceClient(h, base, opts...),
		Admin:                brokerv1connect.NewAdminServiceClient(h, base, opts...),
		Access:               brokerv1connect.NewAccessServiceClient(h, base, opts...),
		Webhooks:             brokerv1connect.NewWebhookServiceClient(h, base, opts...),
		address:              address,
		transport:            t,
		spans:                spans,
	}
}

// Address returns where the client connects to.
func (c *Client) Address() Address { return c.address }

// Close drops idle connections; streams end with their contexts.
func (c *Client) Close() {
	c.spans.endAll()
	c.transport.CloseIdleConnections()
}
