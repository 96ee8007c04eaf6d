package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sandbar-dev/sandbar/broker/pluginhost"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/daemon"
)

// brokerProgram is the program that has what only a broker needs: databases, rules,
// telemetry. It is this command line too, and stands beside it.
const brokerProgram = "sandbar-broker"

// Broker is what that program adds.
type Broker interface {
	// Serve runs a broker until the context ends or the broker ends by itself.
	Serve(ctx context.Context, c BrokerCall) error
	// Plugins returns where a broker with the configuration looks for plugins.
	Plugins(c BrokerCall) (pluginhost.Options, error)
}

// BrokerCall is how a broker was called.
type BrokerCall struct {
	// Config is a configuration file; empty: the user's own, if there is one.
	Config string
	// OnDemand is true for a broker that a command started for itself. It ends after
	// IdleExit without use.
	OnDemand bool
	IdleExit time.Duration
	// ReadyFD is a descriptor on which to say that the broker answers; -1: none.
	ReadyFD   int
	LookupEnv func(string) (string, bool)
	// Stderr takes the log.
	Stderr  io.Writer
	Version string
	Now     func() time.Time
}

// Getenv returns a variable of the environment, or nothing.
func (c BrokerCall) Getenv(name string) string {
	v, _ := c.LookupEnv(name)
	return v
}

func (a *app) brokerCall(config string) BrokerCall {
	return BrokerCall{Config: config, ReadyFD: -1, LookupEnv: a.lookupEnv, Stderr: a.stderr, Version: a.version, Now: a.now}
}

// brokerPath is the program that is the broker: this one, or the one beside it.
func (a *app) brokerPath() (string, error) {
	if a.broker != nil {
		return os.Executable()
	}
	dir, err := daemon.OwnFolder()
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, brokerProgram)
	if _, err := os.Stat(program); err != nil {
		return "", fmt.Errorf("the broker is a program of its own, %s, which belongs beside sandbar: %w", brokerProgram, err)
	}
	return program, nil
}

// withBroker returns what the broker's program adds. In a program without it this
// process becomes that one, with the same arguments, and there is no way back.
func (a *app) withBroker() (Broker, error) {
	if a.broker != nil {
		return a.broker, nil
	}
	program, err := a.brokerPath()
	if err != nil {
		return nil, err
	}
	err = syscall.Exec(program, append([]string{"sandbar"}, a.args...), a.environ)
	return nil, fmt.Errorf("become the broker %s: %w", program, err)
}
