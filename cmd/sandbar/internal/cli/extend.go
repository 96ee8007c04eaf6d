package cli

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/value"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

type extendCmd struct {
	Sandbox string         `arg:"" help:"Id or name."`
	Time    value.Duration `arg:"" help:"Remove the sandbox when this time has passed from now, such as 2h or 7d. It cannot be sooner than it is."`
}

// Run moves the end of a sandbox's life.
func (c *extendCmd) Run(ctx context.Context, a *app) error {
	end := timestamppb.New(a.now().Add(time.Duration(c.Time)))
	sb, err := steady(ctx, a, longCall, func(ctx context.Context, cl *client.Client) (*brokerv1.Sandbox, error) {
		res, err := cl.ExtendSandbox(ctx, request(&brokerv1.ExtendSandboxRequest{Sandbox: c.Sandbox, ExpiresAt: end}))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetSandbox(), nil
	})
	if err != nil {
		return err
	}
	if a.JSON {
		return render.Message(a.stdout, sb)
	}
	return a.out("%s expires %s", sb.GetSandboxId(), render.Until(a.now(), sb.GetExpiresAt()))
}
