package telemetry

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Observation is how things are at one moment. It is made when somebody reads the
// metrics.
type Observation struct {
	// Version is the broker's.
	Version string
	// Sandboxes counts those that are not gone, by provider and state.
	Sandboxes map[string]map[providerv1.SandboxState]int
	// Circuits has the state of each provider's circuit: closed, open or half_open.
	Circuits map[string]string
	// Plugins are the processes.
	Plugins []Plugin
	// Queues has the lengths of queues.
	Queues map[string]int
}

// Plugin is a provider's process.
type Plugin struct {
	Provider string
	// State is one of PluginStates.
	State string
	// Starts counts processes.
	Starts int
}

// States of circuits and plugins; each is a series.
var (
	CircuitStates = []string{"closed", "open", "half_open"}
	PluginStates  = []string{"stopped", "starting", "configuring", "ready", "degraded", "backoff", "quarantined"}
)

// Observe calls look whenever somebody reads the metrics, until stop is called.
// What look returns beside an error is reported as well.
func (m *Metrics) Observe(look func(ctx context.Context) (Observation, error)) (stop func() error, err error) {
	var errs []error
	gauges := make(map[string]metric.Int64ObservableGauge)
	var all []metric.Observable
	for _, name := range []string{nameSandboxes, nameCircuit, namePluginState, nameQueue, nameBuild} {
		d := definition(name)
		g, err := m.meter.Int64ObservableGauge(name, metric.WithUnit(d.Unit), metric.WithDescription(d.Help))
		gauges[name], all, errs = g, append(all, g), append(errs, err)
	}
	d := definition(namePluginStarts)
	starts, err := m.meter.Int64ObservableCounter(namePluginStarts, metric.WithUnit(d.Unit), metric.WithDescription(d.Help))
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("make metrics: %w", err)
	}
	reg, err := m.meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		seen, err := look(ctx)
		seen.tell(func(name string, n int, labels ...attribute.KeyValue) {
			o.ObserveInt64(gauges[name], int64(n), metric.WithAttributes(labels...))
		})
		for _, p := range seen.Plugins {
			o.ObserveInt64(starts, int64(p.Starts), metric.WithAttributes(attribute.String(labelProvider, p.Provider)))
		}
		return err
	}, append(all, starts)...)
	if err != nil {
		return nil, fmt.Errorf("make metrics: %w", err)
	}
	return reg.Unregister, nil
}

func (o Observation) tell(gauge func(name string, n int, labels ...attribute.KeyValue)) {
	gauge(nameBuild, 1, attribute.String(labelVersion, o.Version))
	for name, n := range o.Queues {
		gauge(nameQueue, n, attribute.String(labelQueue, name))
	}
	for provider, states := range o.Sandboxes {
		counts := make(map[string]int) // states that nobody defined are one
		for state, n := range states {
			counts[stateName(state)] += n
		}
		for state, n := range counts {
			gauge(nameSandboxes, n, attribute.String(labelProvider, provider), attribute.String(labelState, state))
		}
	}
	oneOf := func(name, provider, state string, states []string) {
		for _, s := range states {
			n := 0
			if s == state {
				n = 1
			}
			gauge(name, n, attribute.String(labelProvider, provider), attribute.String(labelState, s))
		}
	}
	for provider, state := range o.Circuits {
		oneOf(nameCircuit, provider, state, CircuitStates)
	}
	for _, p := range o.Plugins {
		oneOf(namePluginState, p.Provider, p.State, PluginStates)
	}
}

func stateName(s providerv1.SandboxState) string {
	if _, known := providerv1.SandboxState_name[int32(s)]; !known {
		s = providerv1.SandboxState_SANDBOX_STATE_UNKNOWN
	}
	return lifecycle.Name(s)
}

// PluginState returns one of PluginStates.
func PluginState(s brokerv1.PluginState) string {
	if i := int(s) - int(brokerv1.PluginState_PLUGIN_STATE_STOPPED); i >= 0 && i < len(PluginStates) {
		return PluginStates[i]
	}
	return ""
}
