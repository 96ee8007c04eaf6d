package placement

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/guard"
)

// Requirements are what a provider must have for one sandbox.
type Requirements struct {
	// Provider is the only one that will do; empty: any. What was measured does not
	// rule out a provider that was asked for by name.
	Provider string
	// PinnedBy is the rule that named Provider; empty: the request did.
	PinnedBy string
	// Labels must all be among the provider's.
	Labels map[string]string
	// Region is where the sandbox is to run; empty: anywhere.
	Region string
	// Needs are capabilities, in the order of the request's fields.
	Needs []Need
	// Amounts are compared with declared limits.
	Amounts []Amount
	// Volumes are names of volumes to mount, by field.
	Volumes []Need
	// MaxPrice is the most that it may cost; nil: whatever it costs.
	MaxPrice *brokerv1.MaxPrice
	// Spec is what its price is estimated from.
	Spec *providerv1.SandboxSpec
	// EgressStrength is the least control over what leaves; unspecified: any.
	EgressStrength providerv1.EgressStrength
	// MaxStartLatency is the longest that creations may take; zero: any time. A
	// provider that was not measured will do only with AllowUnmeasured.
	MaxStartLatency time.Duration
	AllowUnmeasured bool
	// Rules are those that are about the request; nil: none are.
	Rules Rules
}

// Need is a field that asks for something.
type Need struct {
	// Field is a path in CreateSandboxRequest.
	Field string
	// Value is what the field says, for people.
	Value string
	// Capability is what it takes.
	Capability string
}

// Amount is a number that a declared limit may forbid.
type Amount struct {
	Need
	// Limit is the name of the limit of the capability.
	Limit string
	N     int64
	// Show writes such a number for people.
	Show func(int64) string
}

// Derive reads requirements out of a request. lifetime is what the sandbox gets
// if the request names none; zero: no end.
func Derive(req *brokerv1.CreateSandboxRequest, lifetime time.Duration) Requirements {
	spec := req.GetSpec()
	r := Requirements{
		Provider: req.GetProvider(), Labels: req.GetProviderLabels(), Region: spec.GetRegion(),
		MaxPrice: req.GetMaxPrice(), Spec: spec,
		EgressStrength:  req.GetMinEgressStrength(),
		MaxStartLatency: req.GetMaxStartLatency().AsDuration(), AllowUnmeasured: req.GetAllowUnmeasured(),
	}
	for _, n := range guard.Uses(req) {
		if n.Capability == "placement.region" {
			continue // the configuration may say it all
		}
		r.Needs = append(r.Needs, Need{Field: n.Field, Value: valueOf(req, n.Field), Capability: n.Capability})
	}
	if idle := req.GetIdle(); idle.GetAction() == brokerv1.IdleAction_IDLE_ACTION_PAUSE && idle.GetTimeout().AsDuration() > 0 {
		r.Needs = append(r.Needs, Need{Field: "idle.action", Value: "PAUSE", Capability: "pause"})
	}
	for i, m := range spec.GetMounts() {
		if v := m.GetVolume(); v != "" {
			r.Volumes = append(r.Volumes, Need{Field: fmt.Sprintf("spec.mounts[%d].volume", i), Value: v, Capability: "mount.volume"})
		}
	}
	r.Amounts = amounts(spec, lifetime)
	return r
}

// amounts are those of the fields with limits that every provider names alike.
func amounts(spec *providerv1.SandboxSpec, lifetime time.Duration) []Amount {
	res := spec.GetResources()
	var out []Amount
	add := func(field, capability, limit string, n int64, show func(int64) string) {
		if n > 0 {
			out = append(out, Amount{Need{field, show(n), capability}, limit, n, show})
		}
	}
	add("spec.resources.cpu_millis", "compute.cpu", "max", res.GetCpuMillis(), cpus)
	add("spec.resources.memory_bytes", "compute.memory", "max", res.GetMemoryBytes(), size)
	add("spec.resources.disk_bytes", "compute.disk", "max", res.GetDiskBytes(), size)
	add("spec.resources.pids", "compute.pids", "max", res.GetPids(), number)
	add("spec.ports", "port.declare", "max_ports", int64(len(spec.GetPorts())), number)
	add("lifetime", "lifetime.native", "max_seconds", int64(lifetime/time.Second), seconds)
	return out
}

func number(n int64) string  { return strconv.FormatInt(n, 10) }
func cpus(n int64) string    { return strconv.FormatFloat(float64(n)/1000, 'g', -1, 64) + " CPUs" }
func seconds(n int64) string { return (time.Duration(n) * time.Second).String() }

// size writes bytes with the largest unit that loses nothing.
func size(n int64) string {
	const units = "KMGT"
	i := -1
	for n != 0 && n%1024 == 0 && i < len(units)-1 {
		n, i = n/1024, i+1
	}
	if i < 0 {
		return number(n) + " bytes"
	}
	return number(n) + string(units[i]) + "iB"
}

// valueOf returns the scalar at a path, or "" where there is none that says more
// than that it is set.
func valueOf(msg proto.Message, path string) string {
	m := msg.ProtoReflect()
	steps := strings.Split(path, ".")
	for i, step := range steps {
		name, index, isList := strings.Cut(strings.TrimSuffix(step, "]"), "[")
		fd := m.Descriptor().Fields().ByName(protoreflect.Name(name))
		if fd == nil || fd.IsMap() {
			return ""
		}
		v := m.Get(fd)
		if n, err := strconv.Atoi(index); isList && err == nil && fd.IsList() && n < v.List().Len() {
			v = v.List().Get(n)
		} else if fd.IsList() {
			return ""
		}
		switch {
		case fd.Message() != nil && i < len(steps)-1:
			m = v.Message()
		case fd.Message() != nil || fd.Kind() == protoreflect.BoolKind || i < len(steps)-1:
			return ""
		case fd.Enum() != nil:
			return string(fd.Enum().Values().ByNumber(v.Enum()).Name())
		default:
			return v.String()
		}
	}
	return ""
}
