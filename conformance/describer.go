package conformance

import (
	"context"
	"slices"
	"sync"

	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// describer remembers what the first instance of a target declared: the one
// that cases share.
type describer struct {
	subject.Target

	mu    sync.Mutex
	first *providerv1.DescribeResponse
}

// Open implements subject.Target.
func (d *describer) Open(ctx context.Context, opts subject.OpenOptions) (*subject.Instance, error) {
	inst, err := d.Target.Open(ctx, opts)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.first == nil {
		d.first = inst.Describe
	}
	return inst, nil
}

// supported returns the capabilities that were declared and are not switched
// off, sorted.
func (d *describer) supported() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for _, c := range d.first.GetCapabilities() {
		if c.GetState() == providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED {
			out = append(out, c.GetId())
		}
	}
	slices.Sort(out)
	return out
}
