package conformance

import (
	"cmp"
	"errors"

	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	"github.com/sandbar-dev/sandbar/conformance/report"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
)

// Target is what is tested. The zero value is none.
type Target struct {
	open func() (subject.Target, error)
	// again is the part of a command line that runs the same target, for failures.
	again string
}

// Setup is what an operator gives a plugin. All fields may be empty.
type Setup struct {
	// Name of the provider; empty: what the binary's file name says.
	Name string
	// Settings and Secrets are for Configure.
	Settings map[string]any
	Secrets  map[string][]byte
}

// Binary tests a plugin binary, which is run as the broker runs it. Its file is
// named sandbar-provider-<name>.
func Binary(path string, setup ...Setup) Target {
	s := one(setup)
	return Target{
		again: "--plugin " + path,
		open: func() (subject.Target, error) {
			return subject.NewBinary(subject.BinaryOptions{Path: path, Name: s.Name, Settings: s.Settings, Secrets: s.Secrets})
		},
	}
}

// InProcess tests a driver that is served in this process, for a debugger. newDriver
// is called for each instance that a case needs. Cases that need a process of the
// plugin's own are skipped, and the report cannot be published.
func InProcess(newDriver func() (sdk.Driver, error), setup ...Setup) Target {
	s := one(setup)
	return Target{
		again: "--plugin PATH",
		open: func() (subject.Target, error) {
			return subject.NewInProcess(subject.DriverOptions{New: newDriver, Settings: s.Settings, Secrets: s.Secrets}), nil
		},
	}
}

func one(setup []Setup) Setup {
	if len(setup) == 0 {
		return Setup{}
	}
	return setup[0]
}

// target opens it.
func (t Target) target() (subject.Target, error) {
	if t.open == nil {
		return nil, errors.New("there is no target: want Binary, InProcess or Broker")
	}
	return t.open()
}

// rerun is a command that runs one case again as it ran.
func (t Target) rerun(id string, run report.Run) string {
	return "sandbar conformance run " + cmp.Or(t.again, "--plugin PATH") + " --case " + id + " " + run.Flags()
}

// Broker tests a provider through the public API of a running broker. address is
// unix:///path, http://host:port or https://host:port; key is an API key, or
// empty. Cases about what a broker keeps to itself are skipped.
func Broker(address, key, provider string) Target {
	return Target{
		again: "--broker --address " + address + " --provider " + provider,
		open: func() (subject.Target, error) {
			return subject.NewBroker(subject.BrokerOptions{Address: address, Key: key, Provider: provider})
		},
	}
}
