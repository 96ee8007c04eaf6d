package sdk

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/guard"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// Limits that the SDK declares in Describe for providers whose execs it runs.
const (
	LimitRetainedOutput = "retained_output_bytes"
	LimitStdinWindow    = "stdin_window_bytes"
	LimitDrain          = "exec_drain_millis"
)

// description is one checked answer of the driver's Describe.
type description struct {
	answer *providerv1.DescribeResponse
	caps   map[string]*providerv1.Capability
}

// describe asks the driver, fills in what is the SDK's, and refuses an answer
// that contradicts itself or the driver's interfaces.
func (s *Server) describe(ctx context.Context, generation uint64) (*description, error) {
	got, err := s.driver.Describe(ctx)
	if err != nil {
		return nil, fmt.Errorf("describe provider: %w", err)
	}
	if got == nil {
		return nil, errors.New("describe provider: the driver returned nothing")
	}
	answer, _ := proto.Clone(got).(*providerv1.DescribeResponse)
	answer.ProtocolMinor = handshake.ProtocolMinor
	answer.ConfigGeneration = generation
	slices.SortFunc(answer.Capabilities, func(a, b *providerv1.Capability) int { return strings.Compare(a.GetId(), b.GetId()) })
	s.addLimits(answer)
	d := &description{answer: answer, caps: make(map[string]*providerv1.Capability, len(answer.GetCapabilities()))}
	for _, c := range answer.GetCapabilities() {
		d.caps[c.GetId()] = c
	}
	if err := d.check(s.driver); err != nil {
		return nil, fmt.Errorf("provider %q: %w", answer.GetName(), err)
	}
	return d, nil
}

func (s *Server) addLimits(answer *providerv1.DescribeResponse) {
	if _, own := s.driver.(ExecServer); own {
		return
	}
	limits := maps.Clone(answer.GetLimits())
	if limits == nil {
		limits = map[string]int64{}
	}
	opts := s.execs.Options()
	limits[LimitRetainedOutput] = int64(opts.Retain)
	limits[LimitStdinWindow] = int64(opts.StdinWindow)
	limits[LimitDrain] = opts.Drain.Milliseconds()
	answer.Limits = limits
}

// implementations says which interface serves a capability. Capabilities that
// the core serves, such as exec.stdin, are not listed.
var implementations = map[string]func(Driver) bool{
	"pause":            implements[Pauser],
	"snapshot":         implements[Snapshotter],
	"fork":             implements[Forker],
	"fs.read":          implements[FileReader],
	"fs.write":         implements[FileWriter],
	"fs.diff":          implements[Differ],
	"archive.download": implements[ArchiveDownloader],
	"archive.upload":   implements[ArchiveUploader],
	"port.list":        implements[PortLister],
	"port.tunnel":      implements[PortDialer],
	"port.url":         implements[PortURLGetter],
	"egress.update":    implements[EgressUpdater],
	"egress.capture":   implements[FlowSource],
	"lifetime.extend":  implements[LifetimeExtender],
	"usage":            implements[UsageReader],
	"watch":            implements[Watcher],
	"volume":           implements[VolumeKeeper],
}

func implements[T any](d Driver) bool {
	_, ok := d.(T)
	return ok
}

// check returns every contradiction at once, so that a vendor fixes them in one
// go.
func (d *description) check(driver Driver) error {
	var errs []error
	if !handshake.ValidName(d.answer.GetName()) {
		errs = append(errs, fmt.Errorf("name is %q: want %s", d.answer.GetName(), handshake.NamePattern))
	}
	if d.answer.GetVersion() == "" {
		errs = append(errs, errors.New(`version is "": want a semantic version`))
	}
	if len(d.caps) != len(d.answer.GetCapabilities()) {
		errs = append(errs, errors.New("a capability is declared twice"))
	}
	for _, c := range d.answer.GetCapabilities() {
		errs = append(errs, d.checkCapability(c, driver))
	}
	for _, id := range slices.Sorted(maps.Keys(implementations)) {
		if d.caps[id] == nil && implementations[id](driver) {
			errs = append(errs, fmt.Errorf("the driver implements %q and does not declare it: declare it, as DISABLED with a reason if it is off", id))
		}
	}
	errs = append(errs, checkSettingsDeclared(d.answer.GetSettings()))
	return errors.Join(errs...)
}

func (d *description) checkCapability(c *providerv1.Capability, driver Driver) error {
	id := c.GetId()
	if guard.Vendor(id) {
		return nil
	}
	if !guard.Known(id) {
		return fmt.Errorf("capability %q is unknown: want an id of capabilities.txt or one that starts with x-", id)
	}
	var errs []error
	switch c.GetState() {
	case providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED:
	case providerv1.CapabilityState_CAPABILITY_STATE_DISABLED:
		if c.GetReason() == "" {
			errs = append(errs, fmt.Errorf("capability %q is DISABLED without a reason", id))
		}
	default:
		errs = append(errs, fmt.Errorf("capability %q has state %v: want SUPPORTED or DISABLED", id, c.GetState()))
	}
	if serves := implementations[id]; serves != nil && !serves(driver) {
		errs = append(errs, fmt.Errorf("capability %q is declared and the driver does not implement its interface", id))
	}
	if id == "exec.reattach" && !implements[ExecServer](driver) {
		errs = append(errs, fmt.Errorf("capability %q is declared and the driver does not implement ExecServer: the SDK's own execs end with the process", id))
	}
	for _, need := range needs(id) {
		if d.caps[need] == nil {
			errs = append(errs, fmt.Errorf("capability %q needs %q, which is not declared", id, need))
		}
	}
	return errors.Join(errs...)
}

func needs(id string) []string {
	for _, c := range guard.Registry() {
		if c.ID == id {
			return c.Needs
		}
	}
	return nil
}

// permit returns nil if the capability is declared and on, and otherwise the
// refusal that REQ-CAP-004 and REQ-CAP-005 demand. field may be empty.
func (d *description) permit(id, field string) error {
	c := d.caps[id]
	var err *fault.Error
	switch {
	case c.GetState() == providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED:
		return nil
	case c != nil:
		err = fault.New(providerv1.ErrorReason_ERROR_REASON_CAPABILITY_DISABLED,
			"capability %s of provider %s is switched off: %s", id, d.answer.GetName(), c.GetReason()).
			With(fault.MetaCapability, id).With("why", c.GetReason()).With("provider", d.answer.GetName())
		if c.GetAlternative() != "" {
			err = err.With("alternative", c.GetAlternative())
		}
	default:
		err = fault.Unsupported(id)
	}
	if field != "" {
		err = err.With(fault.MetaField, field)
	}
	return err
}

// Unsupported is what a driver returns when a sandbox, by its class, lacks a
// capability that the provider declares; see Sandbox.excluded_capabilities.
func Unsupported(capability string) error { return fault.Unsupported(capability) }

// Supported returns the declaration of capabilities that work.
func Supported(ids ...string) []*providerv1.Capability {
	out := make([]*providerv1.Capability, len(ids))
	for i, id := range ids {
		out[i] = &providerv1.Capability{
			Id: id, State: providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED,
			Stability: providerv1.Stability_STABILITY_STABLE,
		}
	}
	return out
}
