package vercel

import (
	"cmp"
	"context"
	"strconv"
	"strings"

	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// GetPortURL implements sdk.PortURLGetter. The address is one that the sandbox was
// made with; it works for as long as the sandbox does, for everybody.
func (d *Driver) GetPortURL(ctx context.Context, req *providerv1.GetPortURLRequest) (*providerv1.GetPortURLResponse, error) {
	found, sb, err := d.standing(ctx, req.GetSandbox())
	if err != nil {
		return nil, err
	}
	if sb.GetState() != providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		return nil, upstream.NotRunning(req.GetSandbox().GetSandboxId(), sb)
	}
	var have []string
	for _, route := range found.Routes {
		if route.Port == req.GetPort() {
			return &providerv1.GetPortURLResponse{Url: route.URL}, nil
		}
		have = append(have, strconv.FormatUint(uint64(route.Port), 10))
	}
	return nil, fault.Field("port", strconv.FormatUint(uint64(req.GetPort()), 10),
		"want one of the ports that the sandbox was made with, in spec.ports: "+cmp.Or(strings.Join(have, ", "), "none"))
}
