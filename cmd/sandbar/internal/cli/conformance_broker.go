package cli

import (
	"context"

	"github.com/sandbar-dev/sandbar/conformance"
)

// brokerTarget is a provider behind a broker: that of --address, that of
// --server, or our own, which is started if it does not run.
func (c *conformanceRunCmd) brokerTarget(ctx context.Context, a *app) (conformance.Target, error) {
	if c.Address != "" {
		a.Server = c.Address
	}
	if _, err := a.connect(ctx); err != nil {
		return conformance.Target{}, err
	}
	return conformance.Broker(a.client.Address().String(), a.getenv("SANDBAR_API_KEY"), c.Provider), nil
}
