package daytona

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/sandbar-dev/sandbar/plugins/daytona/api"
	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// own are the ports that the vendor listens on itself: the toolbox, its SSH, its
// terminal and its recordings. Who can reach the first rules the sandbox.
var own = []uint32{2280, 22220, 22222, 33333}

func checkPort(port uint32) error {
	if slices.Contains(own, port) {
		return fault.Field("port", strconv.FormatUint(uint64(port), 10), "want one that is not the vendor's own")
	}
	return nil
}

// DialPort implements sdk.PortDialer. The vendor's previews carry HTTP alone, so that a
// command does it.
func (d *Driver) DialPort(ctx context.Context, target *providerv1.PortTarget) (net.Conn, error) {
	if err := checkPort(target.GetPort()); err != nil {
		return nil, err
	}
	return d.commands.Dial(ctx, target, d.start)
}

// GetPortURL implements sdk.PortURLGetter. The token is a header's, and not a part of
// the address, which would be kept in more places. It works for as long as the sandbox
// runs, so that any lifetime is satisfied.
func (d *Driver) GetPortURL(ctx context.Context, req *providerv1.GetPortURLRequest) (*providerv1.GetPortURLResponse, error) {
	c, id := d.config(), req.GetSandbox().GetSandboxId()
	if err := checkPort(req.GetPort()); err != nil {
		return nil, err
	}
	at, err := d.locate(ctx, c, req.GetSandbox())
	if err != nil {
		return nil, err
	}
	preview, err := c.vendor.Preview(ctx, at.ID, req.GetPort())
	if upstream.Is(err, http.StatusNotFound) {
		d.known.Forget(id)
		return nil, upstream.NotFound(id)
	}
	if err != nil {
		return nil, upstream.Explain(err, false)
	}
	if u, err := url.Parse(preview.URL); err != nil || u.Host == "" || preview.Token == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL, "the vendor's address of port %d is %q, or lacks a token", req.GetPort(), preview.URL).
			WithEffect(effectNone)
	}
	return &providerv1.GetPortURLResponse{
		Url: preview.URL, Headers: map[string]string{api.PreviewToken: preview.Token, api.SkipWarning: "true"},
	}, nil
}
