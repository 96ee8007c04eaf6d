package fake

import (
	"slices"
	"strconv"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/guard"
)

// Limits that the fake declares. They are there to be reached: memory alone would
// allow more.
const (
	maxCopies  = 64
	maxPorts   = 64
	maxSeconds = 366 * 24 * 60 * 60
)

var limits = map[string]map[string]int64{
	"fork":            {"max_copies": maxCopies},
	"port.declare":    {"max_ports": maxPorts},
	"lifetime.native": {"max_seconds": maxSeconds},
}

// declared are all capabilities, of which some are switched off.
func declared(off []string) []*providerv1.Capability {
	out := sdk.Supported(capabilities...)
	for _, c := range out {
		c.Limits = limits[c.GetId()]
		if why := switchedOff(c.GetId(), off); why != "" {
			c.State, c.Reason = providerv1.CapabilityState_CAPABILITY_STATE_DISABLED, why
		}
	}
	return out
}

// switchedOff says why a capability is off, or "".
func switchedOff(id string, off []string) string {
	if slices.Contains(off, id) {
		return "setting disable has " + id
	}
	for _, c := range guard.Registry() {
		if c.ID != id {
			continue
		}
		for _, need := range c.Needs {
			if slices.Contains(off, need) {
				return "setting disable has " + need + ", which it needs"
			}
		}
	}
	return ""
}

func exceeded(limit string, asked, most int64) error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, "%d is above the limit %s, which is %d", asked, limit, most).
		With("asked", strconv.FormatInt(asked, 10)).With("limit", limit).With("max", strconv.FormatInt(most, 10))
}

// checkLimits refuses a spec that passes a declared limit.
func checkLimits(spec *providerv1.SandboxSpec) error {
	if n := int64(len(spec.GetPorts())); n > maxPorts {
		return exceeded("max_ports", n, maxPorts)
	}
	if life := spec.GetLifetime().AsDuration(); life > maxSeconds*time.Second {
		return exceeded("max_seconds", int64(life/time.Second), maxSeconds)
	}
	return nil
}
