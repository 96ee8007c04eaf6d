package capability

import (
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/request"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// own are the targets where the plugin itself answers: a broker refuses, or looks
// for another provider, before the plugin sees a request.
var own = []subject.Kind{subject.Binary, subject.InProcess}

// refused are the cases about capabilities that are not declared, or switched
// off: one for each id, which uses everything that the id guards.
func refused() []engine.Case { return refusedOf(request.GuardsOf(request.Service())) }

func refusedOf(guards []request.Guard) []engine.Case {
	byID := map[string][]request.Guard{}
	for _, g := range guards {
		byID[g.Capability] = append(byID[g.Capability], g)
	}
	var out []engine.Case
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		out = append(out, engine.Case{
			ID: "cap/" + id + "/refused", Title: "Without " + id + ", all that it guards is refused at once and without effect.",
			Profile: engine.Core, Requirements: []string{"REQ-CAP-001", "REQ-CAP-004", "REQ-CAP-005"},
			Denies: id, Kinds: own, Cost: 3,
			Run: func(t *engine.T) { refuse(t, byID[id]) },
		})
	}
	return out
}

// refuse uses each guarded thing and looks for what that did.
func refuse(t *engine.T, guards []request.Guard) {
	if !controlsEgress(t) { // then there is no sandbox to be had, and nothing to be asked of one
		guards = slices.DeleteFunc(slices.Clone(guards), func(g request.Guard) bool { return request.NeedsSandbox(g.Method) })
	}
	var box *stage.Box
	fromSnapshot := t.Has("snapshot") && stage.Values(t, nil).Least("snapshot") != nil && slices.ContainsFunc(guards, restores)
	if fromSnapshot || slices.ContainsFunc(guards, func(g request.Guard) bool { return request.NeedsSandbox(g.Method) }) {
		box = stage.Create(t)
	}
	values, snapshot := stage.Values(t, box), ""
	if fromSnapshot {
		snapshot = takeSnapshot(t, box, values.Least("snapshot")).GetSnapshotId()
	}
	for _, g := range guards {
		for _, attempt := range attempts(t, g, values) {
			if m, ok := attempt.req.(*providerv1.RestoreSnapshotRequest); ok && snapshot != "" {
				m.SnapshotId = snapshot
			}
			refuseOne(t, g, attempt.what, attempt.req)
		}
	}
	t.Step("look for effects")
	var known []string
	if box != nil {
		known = append(known, box.ID())
		if state := box.Get().GetState(); state != providerv1.SandboxState_SANDBOX_STATE_RUNNING {
			t.Errorf("after the refusals the sandbox is %s: want RUNNING as before", stage.StateName(state))
		}
		box.Run("true").Code(0)
	}
	for _, sb := range stage.ListAll(t, t.Client(), t.Owner(), 0) {
		if id := sb.GetIdentity().GetSandboxId(); !slices.Contains(known, id) {
			t.Errorf("sandbox %s exists: it was made by a request that was refused", id)
		}
	}
}

// controlsEgress reports whether there is any way to ask for a sandbox.
func controlsEgress(t *engine.T) bool {
	return slices.ContainsFunc([]string{"egress.deny", "egress.native", "egress.capture", "egress.open"}, t.Has)
}

// restores reports whether a guard is about making a sandbox from a snapshot.
func restores(g request.Guard) bool { return g.Method.Name() == "RestoreSnapshot" }

// attempt is one request that must be refused.
type attempt struct {
	what string
	req  proto.Message
}

// attempts are the use of a guarded thing, and its use by leaving out what the
// contract fills in.
func attempts(t *engine.T, g request.Guard, values request.Values) []attempt {
	req, err := request.Using(g, values)
	if err != nil {
		t.Broken("no request uses %s: %v", g, err)
	}
	out := []attempt{{g.String(), req}}
	absent := proto.Clone(req)
	switch m := absent.(type) {
	case *providerv1.CreateSandboxRequest:
		if g.Capability == "egress.deny" {
			m.Spec.Egress = nil
			out = append(out, attempt{"CreateSandbox without egress, which means DENY", m})
		}
	case *providerv1.PauseSandboxRequest:
		if g.Capability == "pause.disk" {
			m.Minimum = nil
			out = append(out, attempt{"PauseSandbox without a minimum, which means disk", m})
		}
	case *providerv1.ForkSandboxRequest:
		if g.Capability == "fork.disk" {
			m.Minimum = nil
			out = append(out, attempt{"ForkSandbox without a minimum, which means disk", m})
		}
	}
	return out
}

func refuseOne(t *engine.T, g request.Guard, what string, req proto.Message) {
	undeclared := request.Undeclared(g.Method, defaulted(req), t.Has)
	t.Step("use %s", what)
	ctx, cancel := context.WithTimeout(t.Context(), t.Slowly(patience))
	defer cancel()
	took, err := fastest(func() error { return request.Send(ctx, t.Conn(), g.Method, req) })
	if err == nil {
		t.Errorf("%s succeeded: want %s, because %v is not declared", what, fault.Name(providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED), undeclared)
		return
	}
	refusal(t, what, err, undeclared)
	if took > time.Second {
		t.Errorf("%s was refused after %s: want it within a second", what, took.Round(time.Millisecond))
	}
	if op, ok := req.(interface {
		GetOperation() *providerv1.Operation
	}); ok {
		unmade(t, what, op.GetOperation().GetIdempotencyKey())
	}
}

// fastest makes a call that is to be refused, and again while that takes more than
// a second, which one such call on a machine that is busy may.
func fastest(call func() error) (took time.Duration, err error) {
	for range 3 {
		start := time.Now()
		err = call()
		if took = time.Since(start); took <= time.Second || err == nil {
			break
		}
	}
	return took, err
}

// patience is how long the case waits for a refusal that comes too late.
const patience = 5 * time.Second

// defaulted makes explicit that no egress means DENY and no minimum disk.
func defaulted(req proto.Message) proto.Message {
	req = proto.Clone(req)
	disk := &providerv1.Keeps{Disk: true}
	switch m := req.(type) {
	case *providerv1.CreateSandboxRequest:
		if m.GetSpec().GetEgress() == nil {
			m.Spec.Egress = &providerv1.Egress{Mode: providerv1.EgressMode_EGRESS_MODE_DENY}
		}
	case *providerv1.PauseSandboxRequest:
		if m.GetMinimum() == nil {
			m.Minimum = disk
		}
	case *providerv1.ForkSandboxRequest:
		if m.GetMinimum() == nil {
			m.Minimum = disk
		}
	}
	return req
}

// refusal checks that an error is the refusal of one of the capabilities that a
// request needs and does not get.
func refusal(t *engine.T, what string, err error, undeclared []string) {
	f := stage.Refused(t, what, err, providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED,
		providerv1.ErrorReason_ERROR_REASON_CAPABILITY_DISABLED)
	stage.NoEffect(t, what, f)
	id := f.Metadata[fault.MetaCapability]
	if !slices.Contains(undeclared, id) {
		t.Errorf("%s: metadata[capability] is %q: want one of %q", what, id, undeclared)
		return
	}
	why, off := disabled(t, id)
	switch {
	case off && f.Reason != providerv1.ErrorReason_ERROR_REASON_CAPABILITY_DISABLED:
		t.Errorf("%s: reason %s: want CAPABILITY_DISABLED, because %s is declared and switched off", what, fault.Name(f.Reason), id)
	case off && f.Metadata["why"] != why:
		t.Errorf("%s: metadata[why] is %q: want the reason that Describe gives, %q", what, f.Metadata["why"], why)
	case !off && f.Reason != providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED:
		t.Errorf("%s: reason %s: want CAPABILITY_NOT_SUPPORTED, because %s is not declared", what, fault.Name(f.Reason), id)
	}
}

// disabled returns why a capability is switched off, if it is.
func disabled(t *engine.T, id string) (string, bool) {
	for _, c := range t.Instance().Describe.GetCapabilities() {
		if c.GetId() == id && c.GetState() == providerv1.CapabilityState_CAPABILITY_STATE_DISABLED {
			return c.GetReason(), true
		}
	}
	return "", false
}

// unmade checks that a key made nothing.
func unmade(t *engine.T, what, key string) {
	_, err := t.Client().GetSandbox(t.Context(), &providerv1.GetSandboxRequest{
		By: &providerv1.GetSandboxRequest_IdempotencyKey{IdempotencyKey: key},
	})
	if err == nil {
		t.Errorf("%s was refused, and made a sandbox all the same", what)
		return
	}
	_ = stage.Refused(t, "GetSandbox by the key of "+what, err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND)
}
