package server

import (
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/broker/telemetry"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Activity says how the providers fare; those that are not configured any more
// come last, if they have sandboxes.
func (a admin) Activity(ctx context.Context) (*brokerv1.GetActivityResponse, error) {
	seen, err := a.s.service.Observe(ctx)
	if err != nil {
		return nil, state.Fault(err)
	}
	window, lately := a.s.observed.metrics.Activity()
	out := &brokerv1.GetActivityResponse{At: timestamppb.New(time.Now()), Window: durationpb.New(window)}
	names := a.s.fleet.Names()
	for _, name := range names {
		d, l := a.s.fleet.Describe(name), lately[name]
		out.Providers = append(out.Providers, &brokerv1.ProviderActivity{
			Provider: name, State: d.GetState(), StatusReason: d.GetStatusReason(), Starts: d.GetStarts(), Circuit: seen.Circuits[name],
			Sandboxes: counted(seen.Sandboxes[name]), Streams: int32(l.Streams),
			Creates: tally(l.Creates), Changes: tally(l.Changes), Execs: tally(l.Starts),
		})
	}
	for _, name := range slices.Sorted(maps.Keys(seen.Sandboxes)) {
		if !slices.Contains(names, name) {
			out.Providers = append(out.Providers, &brokerv1.ProviderActivity{
				Provider: name, State: brokerv1.PluginState_PLUGIN_STATE_STOPPED, StatusReason: "it is not configured",
				Sandboxes: counted(seen.Sandboxes[name]), Creates: &brokerv1.CallTally{}, Changes: &brokerv1.CallTally{}, Execs: &brokerv1.CallTally{},
			})
		}
	}
	return out, nil
}

func counted(states map[providerv1.SandboxState]int) []*brokerv1.SandboxCount {
	var out []*brokerv1.SandboxCount
	for _, state := range slices.Sorted(maps.Keys(states)) {
		out = append(out, &brokerv1.SandboxCount{State: state, Count: int64(states[state])})
	}
	return out
}

func tally(t telemetry.Tally) *brokerv1.CallTally {
	out := &brokerv1.CallTally{Succeeded: t.OK, Failed: t.Failed}
	if t.OK > 0 {
		out.P50, out.P95 = durationpb.New(t.P50), durationpb.New(t.P95)
	}
	return out
}
