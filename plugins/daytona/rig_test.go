package daytona_test

import (
	"testing"

	simulator "github.com/sandbar-dev/sandbar/conformance/simulator/daytona"
	"github.com/sandbar-dev/sandbar/plugins/daytona"
	"github.com/sandbar-dev/sandbar/plugins/providertest"
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
	return map[string]any{"base_url": v.url + "/api"}
}

func secrets() map[string][]byte { return map[string][]byte{"api_key": []byte(simulator.DefaultKey)} }

// plugin is the driver, served and configured for a simulator.
type plugin struct{ providertest.Plugin }

func newPlugin(t *testing.T, v vendor, state string, more map[string]any) plugin {
	t.Helper()
	settings := v.settings()
	for name, value := range more {
		settings[name] = value
	}
	return plugin{providertest.New(t, daytona.New(daytona.Options{}), settings, secrets(), state)}
}
