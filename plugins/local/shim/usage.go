package shim

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// meter counts a sandbox's use from its creation on, over all guests that it has
// been.
type meter struct {
	// earlier is what it had used when this guest began.
	earlier *providerv1.Usage
	// inherited is the processor time that the guest began with: a restored one
	// goes on counting where the saved one stood, whosesoever that was.
	inherited time.Duration
}

// newMeter measures a guest that has just been restored.
func newMeter(ctx context.Context, sb *runsc.Sandbox, earlier *providerv1.Usage) (meter, error) {
	u, err := sb.Usage(ctx)
	if err != nil {
		return meter{}, fmt.Errorf("measure restored guest: %w", err)
	}
	return meter{earlier: earlier, inherited: u.CPU}, nil
}

// read returns what the sandbox has used so far.
func (m meter) read(ctx context.Context, sb *runsc.Sandbox) (*providerv1.Usage, error) {
	u, err := sb.Usage(ctx)
	if err != nil {
		return nil, err
	}
	usage := &providerv1.Usage{
		CpuNanos:    proto.Int64(m.earlier.GetCpuNanos() + max(0, u.CPU-m.inherited).Nanoseconds()),
		MemoryBytes: proto.Int64(u.MemoryBytes),
	}
	if u.MemoryPeak > 0 {
		usage.MemoryPeakBytes = proto.Int64(max(u.MemoryPeak, u.MemoryBytes, m.earlier.GetMemoryPeakBytes()))
	}
	return usage, nil
}

// GetUsage implements sdk.UsageReader.
func (g *guest) GetUsage(ctx context.Context, _ *providerv1.GetUsageRequest) (*providerv1.Usage, error) {
	usage, err := g.meter.read(ctx, g.sb)
	if err != nil {
		return nil, endedOr(err)
	}
	return usage, nil
}

// finalUsage is what a sandbox has used that is about to be paused: its guest
// stands still, and nothing of it will be in memory.
func (g *guest) finalUsage(ctx context.Context) (*providerv1.Usage, error) {
	usage, err := g.meter.read(ctx, g.sb)
	if err != nil {
		return nil, fmt.Errorf("measure the guest: %w", err)
	}
	usage.MemoryBytes = proto.Int64(0)
	return usage, nil
}
