package apitest

import (
	"context"
	"maps"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// GetActivity counts the records, by provider.
func (b *Broker) GetActivity(context.Context, *connect.Request[brokerv1.GetActivityRequest]) (*connect.Response[brokerv1.GetActivityResponse], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	states := map[string]map[providerv1.SandboxState]int64{"fake": {}}
	execs := make(map[string]int64)
	for _, s := range b.sandboxes {
		name := s.msg.GetProvider()
		if states[name] == nil {
			states[name] = make(map[providerv1.SandboxState]int64)
		}
		states[name][s.msg.GetState()]++
		execs[name] += int64(len(s.execs))
	}
	out := &brokerv1.GetActivityResponse{At: timestamppb.Now(), Window: durationpb.New(time.Since(b.started))}
	for _, name := range slices.Sorted(maps.Keys(states)) {
		p := &brokerv1.ProviderActivity{
			Provider: name, State: brokerv1.PluginState_PLUGIN_STATE_READY, Starts: 1, Circuit: "closed",
			Creates: &brokerv1.CallTally{}, Changes: &brokerv1.CallTally{}, Execs: &brokerv1.CallTally{Succeeded: execs[name]},
		}
		for _, st := range slices.Sorted(maps.Keys(states[name])) {
			p.Sandboxes = append(p.Sandboxes, &brokerv1.SandboxCount{State: st, Count: states[name][st]})
			p.Creates.Succeeded += states[name][st]
		}
		out.Providers = append(out.Providers, p)
	}
	return connect.NewResponse(out), nil
}
