package server

import (
	"context"
	"fmt"
	"sync"

	"github.com/sandbar-dev/sandbar/broker/pluginhost"
	"github.com/sandbar-dev/sandbar/broker/pluginhost/supervisor"
	"github.com/sandbar-dev/sandbar/broker/provider"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// hosted is a Fleet of plugin processes.
type hosted struct {
	opts      pluginhost.Options
	byDefault string
	observer  provider.Observer

	mu        sync.Mutex
	host      *pluginhost.Host
	providers map[string]*provider.Provider
}

func newHosted(opts pluginhost.Options, byDefault string, observer provider.Observer) *hosted {
	return &hosted{opts: opts, byDefault: byDefault, observer: observer}
}

func (h *hosted) Start(ctx context.Context, owner string, ready func(string)) error {
	opts := h.opts
	opts.Owner = owner
	opts.OnReady = func(_ context.Context, p *pluginhost.Plugin, _ uint64) { ready(p.Name()) }
	host, err := pluginhost.New(opts)
	if err != nil {
		return err
	}
	providers := make(map[string]*provider.Provider)
	for _, p := range host.Plugins() {
		providers[p.Name()] = provider.New(p.Name(), p, provider.Options{Observe: h.observer})
	}
	h.mu.Lock()
	h.host, h.providers = host, providers
	h.mu.Unlock()
	return host.Start(ctx)
}

func (h *hosted) plugin(name string) (*pluginhost.Plugin, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.host == nil {
		return nil, fmt.Errorf("provider %q is not started", name)
	}
	return h.host.Plugin(name)
}

func (h *hosted) Provider(name string) (*provider.Provider, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, ok := h.providers[name]
	return p, ok
}

func (h *hosted) Unreachable(name string) string {
	p, err := h.plugin(name)
	if err != nil {
		return err.Error()
	}
	st := p.Status()
	switch st.State {
	case supervisor.Backoff, supervisor.Quarantined:
		return fmt.Sprintf("provider %q is %s: %s", name, st.State, st.Reason)
	default:
		return "" // it serves, or calls wait for it
	}
}

func (h *hosted) Names() []string {
	var out []string
	for _, p := range h.opts.Plugins {
		out = append(out, p.Name)
	}
	return out
}

func (h *hosted) Default() string { return h.byDefault }

var pluginStates = map[supervisor.State]brokerv1.PluginState{
	supervisor.Stopped:     brokerv1.PluginState_PLUGIN_STATE_STOPPED,
	supervisor.Starting:    brokerv1.PluginState_PLUGIN_STATE_STARTING,
	supervisor.Configuring: brokerv1.PluginState_PLUGIN_STATE_CONFIGURING,
	supervisor.Ready:       brokerv1.PluginState_PLUGIN_STATE_READY,
	supervisor.Degraded:    brokerv1.PluginState_PLUGIN_STATE_DEGRADED,
	supervisor.Backoff:     brokerv1.PluginState_PLUGIN_STATE_BACKOFF,
	supervisor.Quarantined: brokerv1.PluginState_PLUGIN_STATE_QUARANTINED,
}

func (h *hosted) Describe(name string) *brokerv1.Provider {
	out := &brokerv1.Provider{Name: name, IsDefault: name == h.byDefault}
	p, err := h.plugin(name)
	if err != nil {
		out.State, out.StatusReason = brokerv1.PluginState_PLUGIN_STATE_STOPPED, err.Error()
		return out
	}
	st := p.Status()
	out.State, out.StatusReason = pluginStates[st.State], st.Reason
	out.Version, out.Path, out.Sha256 = st.Version, st.Path, st.SHA256
	out.Pid, out.Starts = int32(st.PID), int32(st.Starts)
	out.Capabilities = st.Capabilities
	return out
}

func (h *hosted) Settle(ctx context.Context, name string) {
	if p, err := h.plugin(name); err == nil {
		p.Settled(ctx)
	}
}

func (h *hosted) Restart(ctx context.Context, name string) error {
	p, err := h.plugin(name)
	if err != nil {
		return err
	}
	return p.Restart(ctx)
}

func (h *hosted) Close(ctx context.Context) error {
	h.mu.Lock()
	host := h.host
	h.mu.Unlock()
	if host == nil {
		return nil
	}
	return host.Close(ctx)
}
