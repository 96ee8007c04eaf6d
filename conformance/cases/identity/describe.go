package identity

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/cases/capability"
	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/guard"
	"github.com/sandbar-dev/sandbar/proto/handshake"
	"github.com/sandbar-dev/sandbar/proto/pattern"
)

func describe() []engine.Case {
	return []engine.Case{
		{
			ID: "describe/pure", Title: "Describe gives the same answer on every call between two accepted configurations.",
			Profile: engine.Core, Requirements: []string{"REQ-ID-002"}, Kinds: own,
			Run: pure,
		},
		{
			ID: "describe/fast-without-config", Title: "Describe answers within a second before anything is configured.",
			Profile: engine.Core, Requirements: []string{"REQ-ID-001"}, Kinds: own,
			Run: fast,
		},
		{
			ID: "describe/matches-manifest", Title: "What the binary prints with --describe is what Describe answers before Configure.",
			Profile: engine.Core, Requirements: []string{"REQ-PROC-004", "REQ-ID-002"}, Kinds: []subject.Kind{subject.Binary},
			Run: matchesManifest,
		},
		{
			ID: "describe/names", Title: "Name, version, settings and hosts are written as the contract says.",
			Profile: engine.Core, Requirements: []string{"REQ-ID-003"}, Kinds: own,
			Run: names,
		},
		{
			ID: "describe/capabilities", Title: "Capabilities are known, sorted, each there once and with those it needs.",
			Profile: engine.Core, Requirements: []string{"REQ-CAP-001", "REQ-CAP-003", "REQ-CAP-005"}, Kinds: own,
			Run: capabilities,
		},
	}
}

// ask calls Describe.
func ask(t *engine.T, inst *subject.Instance) *providerv1.DescribeResponse {
	resp, err := t.ClientOf(inst).Describe(t.Context(), &providerv1.DescribeRequest{})
	stage.OK(t, "Describe", err)
	return resp
}

// unchanged checks that two answers are one.
func unchanged(t *engine.T, when string, before, after *providerv1.DescribeResponse) {
	if diff := stage.Difference(before, after); diff != "" {
		t.Errorf("Describe changed %s (- before, + after):\n%s", when, diff)
	}
}

func pure(t *engine.T) {
	inst := stage.Open(t, subject.OpenOptions{Unconfigured: true})
	first := ask(t, inst)
	unchanged(t, "from one call to the next, before Configure", first, ask(t, inst))
	accept(t, inst, inst.Configuration)
	configured := ask(t, inst)
	client := t.ClientOf(inst)
	_, err := client.Probe(t.Context(), &providerv1.ProbeRequest{})
	stage.OK(t, "Probe", err)
	_, err = client.ListSandboxes(t.Context(), &providerv1.ListSandboxesRequest{Owner: t.Owner()})
	stage.OK(t, "ListSandboxes", err)
	unchanged(t, "from one call to the next, after Configure", configured, ask(t, inst))
}

func fast(t *engine.T) {
	inst := stage.Open(t, subject.OpenOptions{Unconfigured: true})
	start := time.Now()
	resp, err := t.ClientOf(inst).Describe(t.Context(), &providerv1.DescribeRequest{})
	stage.OK(t, "Describe before Configure", err)
	if took := time.Since(start); took > time.Second {
		t.Errorf("Describe took %s: want a second at most", took)
	}
	if resp.GetName() == "" || len(resp.GetCapabilities()) == 0 {
		t.Errorf("before Configure Describe says name %q with %d capabilities: want what the plugin can do", resp.GetName(), len(resp.GetCapabilities()))
	}
}

func matchesManifest(t *engine.T) {
	inst := stage.Open(t, subject.OpenOptions{Unconfigured: true})
	manifest, err := inst.Manifest(t.Context())
	if err != nil {
		t.Fatalf("%v: want the manifest and exit code 0", err)
	}
	if !slices.Contains(manifest.ProtocolMajors, handshake.ProtocolMajor) {
		t.Errorf("the manifest's protocol_majors are %v: want %d among them", manifest.ProtocolMajors, handshake.ProtocolMajor)
	}
	if diff := stage.Difference(manifest.Describe, ask(t, inst)); diff != "" {
		t.Errorf("the manifest differs from Describe (- manifest, + Describe):\n%s", diff)
	}
}

var (
	versionPattern = pattern.Lazy(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)
	settingPattern = pattern.Lazy(`^[a-z][a-z0-9_]{0,62}$`)
	hostPattern    = pattern.Lazy(`^(\*\.)?([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(:[0-9]{1,5})?$`)
)

func names(t *engine.T) {
	inst := stage.Open(t, subject.OpenOptions{Unconfigured: true})
	d := ask(t, inst)
	if !handshake.ValidName(d.GetName()) {
		t.Errorf("name is %q: want %s", d.GetName(), handshake.NamePattern)
	}
	about, err := t.Target().About(t.Context())
	if err != nil {
		t.Broken("the target cannot be looked at: %v", err)
	}
	if d.GetName() != about.Name {
		t.Errorf("name is %q: want %q, as the binary's file name says", d.GetName(), about.Name)
	}
	if !versionPattern().MatchString(d.GetVersion()) {
		t.Errorf("version is %q: want a semantic version such as 1.2.3", d.GetVersion())
	}
	seen := map[string]bool{}
	for _, s := range d.GetSettings() {
		if !settingPattern().MatchString(s.GetName()) || seen[s.GetName()] {
			t.Errorf("setting %q: want a name that matches %s, once", s.GetName(), settingPattern())
		}
		seen[s.GetName()] = true
		_, known := providerv1.SettingType_name[int32(s.GetType())]
		if !known || s.GetType() == providerv1.SettingType_SETTING_TYPE_UNSPECIFIED {
			t.Errorf("setting %s has type %s: want one of the contract's", s.GetName(), s.GetType())
		}
		if strings.TrimSpace(s.GetDescription()) == "" {
			t.Errorf("setting %s has no description: want one sentence", s.GetName())
		}
	}
	for _, host := range d.GetEgressHosts() {
		if !hostPattern().MatchString(host) {
			t.Errorf("egress host %q: want a host name, or *. and a suffix", host)
		}
	}
}

var vendorPattern = pattern.Lazy(`^x-[a-z0-9-]+\.[a-z0-9._-]+$`)

func capabilities(t *engine.T) {
	inst := stage.Open(t, subject.OpenOptions{Unconfigured: true})
	for _, problem := range declared(ask(t, inst).GetCapabilities()) {
		t.Errorf("before Configure: %s", problem)
	}
	accept(t, inst, inst.Configuration)
	for _, problem := range declared(ask(t, inst).GetCapabilities()) {
		t.Errorf("after Configure: %s", problem)
	}
}

// declared finds what is wrong with a list of capabilities.
func declared(list []*providerv1.Capability) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	ids := make([]string, len(list))
	for i, c := range list {
		ids[i] = c.GetId()
	}
	if !slices.IsSorted(ids) {
		add("capabilities are not sorted by id: %q", ids)
	}
	for i, c := range list {
		id := c.GetId()
		if slices.Contains(ids[:i], id) {
			add("capability %s is declared twice", id)
		}
		switch c.GetState() {
		case providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED:
		case providerv1.CapabilityState_CAPABILITY_STATE_DISABLED:
			if c.GetReason() == "" {
				add("capability %s is DISABLED without a reason", id)
			}
		default:
			add("capability %s has state %s: want SUPPORTED or DISABLED", id, c.GetState())
		}
		if guard.Vendor(id) {
			if !vendorPattern().MatchString(id) {
				add("capability %q: want x-<vendor>. and a name", id)
			}
			continue
		}
		if !guard.Known(id) {
			add("capability %q is not in the registry: want a registered id, or one that starts with x-<vendor>.", id)
		}
		for _, need := range needs(id) {
			if !slices.Contains(ids, need) {
				add("capability %s is declared without %s, which it needs", id, need)
			}
		}
		for name := range c.GetLimits() {
			if !slices.Contains(capability.Known()[id], name) && !strings.HasPrefix(name, "x-") {
				add("capability %s has limit %q: want one that the contract names, or a name that starts with x-", id, name)
			}
		}
	}
	return out
}

func needs(id string) []string {
	for _, c := range guard.Registry() {
		if c.ID == id {
			return c.Needs
		}
	}
	return nil
}
