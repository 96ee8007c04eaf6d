package apiclient

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/broker/api/batch"
	"github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1/brokerv1connect"
)

// Client is a connection to one broker.
type Client struct {
	brokerv1connect.SandboxServiceClient

	// Admin is about the broker itself.
	Admin brokerv1connect.AdminServiceClient

	// Access is about callers.
	Access brokerv1connect.AccessServiceClient

	// Webhooks is about URLs that are told of events.
	Webhooks brokerv1connect.WebhookServiceClient

	transport *http.Transport
}

// dialTimeout bounds connecting, not calling.
const dialTimeout = 10 * time.Second

// Unix returns a client for the broker that serves on a Unix socket. It connects
// at the first call.
func Unix(socket string) *Client {
	t := transport()
	d := net.Dialer{Timeout: dialTimeout}
	t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "unix", socket)
	}
	t.Protocols.SetUnencryptedHTTP2(true)
	// The host part is never looked up; it only has to be there.
	return newClient(t, "http://sandbar", "")
}

// TCP returns a client for a broker at http://host:port or https://host:port. key
// is the API key; tlsConfig may be nil for the system's certificates. A key is
// never sent unencrypted to another machine.
func TCP(address, key string, tlsConfig *tls.Config) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("broker address is %q: want http://host:port or https://host:port", address)
	}
	t := transport()
	t.TLSClientConfig = tlsConfig
	if u.Scheme == "https" {
		t.Protocols.SetHTTP2(true)
	} else {
		if key != "" && !loopback(u.Hostname()) {
			return nil, fmt.Errorf("broker address is %q: want https, because an API key would cross the network in the clear", address)
		}
		t.Protocols.SetUnencryptedHTTP2(true)
	}
	return newClient(t, u.Scheme+"://"+u.Host, key), nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func transport() *http.Transport {
	return &http.Transport{
		Protocols: new(http.Protocols),
		// A broker that hangs is noticed by pings, as calls that wait for a command
		// are silent for as long as the command is.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
	}
}

func newClient(t *http.Transport, base, key string) *Client {
	opts := []connect.ClientOption{
		connect.WithGRPC(),
		connect.WithInterceptors(interceptor{key}),
		// Compressing a stream of output costs more time than it saves.
		connect.WithAcceptCompression("gzip", nil, nil),
	}
	hc := &http.Client{Transport: batch.Transport(t)}
	return &Client{
		SandboxServiceClient: brokerv1connect.NewSandboxServiceClient(hc, base, opts...),
		Admin:                brokerv1connect.NewAdminServiceClient(hc, base, opts...),
		Access:               brokerv1connect.NewAccessServiceClient(hc, base, opts...),
		Webhooks:             brokerv1connect.NewWebhookServiceClient(hc, base, opts...),
		transport:            t,
	}
}

// Close closes connections that no call uses.
func (c *Client) Close() { c.transport.CloseIdleConnections() }
