package cli

import (
	"context"
	"time"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/value"
)

type serveCmd struct {
	Config   string         `short:"c" help:"Configuration file; default: sandbar/config.yaml in your configuration folder, if there is one." type:"path" env:"SANDBAR_CONFIG" placeholder:"FILE"`
	OnDemand bool           `help:"Serve your own socket only, and stop after --idle-exit without use; the CLI starts a broker so."`
	IdleExit value.Duration `help:"With --on-demand: how long without use." default:"15m" placeholder:"TIME"`
	ReadyFD  int            `name:"ready-fd" default:"-1" hidden:"" help:"Descriptor on which to say that the broker answers."`
}

// Help is shown below the flags.
func (*serveCmd) Help() string {
	return "Without listen.unix in the configuration it serves the socket that your own commands use."
}

// Run runs a broker in the foreground until it is interrupted.
func (c *serveCmd) Run(ctx context.Context, a *app) error {
	b, err := a.withBroker()
	if err != nil {
		return err
	}
	call := a.brokerCall(c.Config)
	call.OnDemand, call.IdleExit, call.ReadyFD = c.OnDemand, time.Duration(c.IdleExit), c.ReadyFD
	return b.Serve(ctx, call)
}
