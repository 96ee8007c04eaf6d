package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

type explainCmd struct {
	Sandbox string `arg:"" help:"Id or name; of one that was removed, the id."`
}

// Help is shown below the flags.
func (*explainCmd) Help() string {
	return "Shows every provider there was when the sandbox was made: what ruled it out, or what its score was made of. " +
		"`sandbar create --dry-run` shows the same for a sandbox that is not made yet."
}

// Run shows the placement that is stored with a sandbox.
func (c *explainCmd) Run(ctx context.Context, a *app) error {
	p, err := steady(ctx, a, quickCall, func(ctx context.Context, cl *client.Client) (*brokerv1.Placement, error) {
		res, err := cl.ExplainSandbox(ctx, request(&brokerv1.ExplainSandboxRequest{Sandbox: c.Sandbox}))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetPlacement(), nil
	})
	if err != nil {
		return err
	}
	if a.JSON {
		return render.Message(a.stdout, p)
	}
	if err := a.out("%s was put on %s %s%s.", c.Sandbox, p.GetProvider(), render.Ago(a.now(), p.GetDecidedAt()), because(p)); err != nil {
		return err
	}
	return a.showPlacement(p)
}

// plan shows where a sandbox would go. That it could go nowhere is a failure.
func (a *app) plan(ctx context.Context, req *brokerv1.CreateSandboxRequest) error {
	p, err := steady(ctx, a, longCall, func(ctx context.Context, cl *client.Client) (*brokerv1.Placement, error) {
		res, err := cl.PlanSandbox(ctx, request(&brokerv1.PlanSandboxRequest{Create: req}))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetPlacement(), nil
	})
	if err != nil {
		return err
	}
	text := "No provider could make it."
	if p.GetProvider() != "" {
		text = "It would be put on " + p.GetProvider() + because(p) + "."
	}
	if a.JSON {
		err = render.Message(a.stdout, p)
	} else if err = a.out("%s", text); err == nil {
		err = a.showPlacement(p)
	}
	if err == nil && p.GetProvider() == "" {
		return exitError(codeFailure)
	}
	return err
}

// because says in a few words why the provider of a placement is the one.
func because(p *brokerv1.Placement) string {
	able := 0
	for _, c := range p.GetCandidates() {
		if len(c.GetObstacles()) == 0 {
			able++
		}
	}
	switch {
	case p.GetNote() != "":
		return ": " + p.GetNote()
	case len(p.GetAttempts()) > 0:
		return ": the best one left after " + count(len(p.GetAttempts()), "refusal", "refusals")
	case able == 1:
		return fmt.Sprintf(": the only one of %d that can make it", len(p.GetCandidates()))
	default:
		return fmt.Sprintf(": the best score of %d", able)
	}
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
