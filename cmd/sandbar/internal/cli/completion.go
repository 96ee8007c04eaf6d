package cli

import (
	"context"
	"time"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/completion"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/daemon"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// completionLimit keeps a slow broker from freezing somebody's prompt.
const completionLimit = 500 * time.Millisecond

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is shown below the flags.
func (*completionCmd) Help() string {
	return "Load it with: source <(sandbar completion bash), source <(sandbar completion zsh), or sandbar completion fish | source."
}

// Run prints the script.
func (c *completionCmd) Run(a *app) error {
	_, err := a.stdout.WriteString(completion.Script(c.Shell))
	return err
}

type completeCmd struct {
	Words []string `arg:"" optional:"" passthrough:"" help:"Words so far, the one to complete last."`
}

// Run prints candidates, one a line, with a tab and a description where there is
// one. It never starts a broker and never fails.
func (c *completeCmd) Run(ctx context.Context, a *app) error {
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	for _, cand := range completion.Complete(a.model, words, func(kind string) []string { return a.dynamic(ctx, kind) }) {
		line := cand.Text
		if cand.Help != "" {
			line += "\t" + cand.Help
		}
		if err := a.out("%s", line); err != nil {
			return err
		}
	}
	return nil
}

// dynamic lists what only a running broker knows.
func (a *app) dynamic(ctx context.Context, kind string) []string {
	ctx, cancel := context.WithTimeout(ctx, completionLimit)
	defer cancel()
	if a.Server == "" {
		place, err := daemon.Locate(a.getenv)
		if err != nil || !daemon.Listening(ctx, place) {
			return nil
		}
	}
	address, err := a.address()
	if err != nil {
		return nil
	}
	a.client = client.New(address, client.Options{APIKey: a.getenv("SANDBAR_API_KEY"), Version: a.version})
	switch kind {
	case "sandbox":
		return sandboxNames(ctx, a.client)
	case "snapshot":
		return snapshotNames(ctx, a.client)
	case "provider":
		return providerNames(ctx, a.client)
	}
	return nil
}

func sandboxNames(ctx context.Context, c *client.Client) []string {
	res, err := c.ListSandboxes(ctx, request(&brokerv1.ListSandboxesRequest{PageSize: listPage}))
	if err != nil {
		return nil
	}
	var out []string
	for _, sb := range res.Msg.GetSandboxes() {
		if out = append(out, sb.GetSandboxId()); sb.GetName() != "" {
			out = append(out, sb.GetName())
		}
	}
	return out
}

func snapshotNames(ctx context.Context, c *client.Client) []string {
	res, err := c.ListSnapshots(ctx, request(&brokerv1.ListSnapshotsRequest{PageSize: listPage}))
	if err != nil {
		return nil
	}
	var out []string
	for _, s := range res.Msg.GetSnapshots() {
		if out = append(out, s.GetSnapshotId()); s.GetName() != "" {
			out = append(out, s.GetName())
		}
	}
	return out
}

func providerNames(ctx context.Context, c *client.Client) []string {
	res, err := c.Admin.ListProviders(ctx, request(&brokerv1.ListProvidersRequest{}))
	if err != nil {
		return nil
	}
	var out []string
	for _, p := range res.Msg.GetProviders() {
		out = append(out, p.GetName())
	}
	return out
}
