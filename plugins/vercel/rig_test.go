package vercel_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	simulator "github.com/sandbar-dev/sandbar/conformance/simulator/vercel"
	"github.com/sandbar-dev/sandbar/plugins/providertest"
	"github.com/sandbar-dev/sandbar/plugins/vercel"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// vendor is a simulator with guests in memory, and where it is.
type vendor struct {
	*simulator.Simulator
	url string
}

func newVendor(t *testing.T) vendor {
	t.Helper()
	sim, err := simulator.New(t.Context(), simulator.Options{Guests: providertest.Guests(t)})
	if err != nil {
		t.Fatal(err)
	}
	return vendor{sim, providertest.Simulate(t, sim)}
}

const patience = providertest.Patience

// settings are for a simulator.
func (v vendor) settings() map[string]any {
	return map[string]any{"base_url": v.url, "team_id": simulator.DefaultTeam, "project_id": simulator.DefaultProject}
}

func secrets() map[string][]byte { return map[string][]byte{"token": []byte(simulator.DefaultToken)} }

// plugin is the driver, served and configured for a simulator.
type plugin struct{ providertest.Plugin }

func newPlugin(t *testing.T, v vendor, state string, more map[string]any) plugin {
	t.Helper()
	settings := v.settings()
	for name, value := range more {
		settings[name] = value
	}
	return plugin{providertest.New(t, vercel.New(vercel.Options{}), settings, secrets(), state)}
}

func newRequest() *providerv1.CreateSandboxRequest {
	req := providertest.NewRequest()
	req.Spec.Lifetime = durationpb.New(10 * time.Minute)
	return req
}
