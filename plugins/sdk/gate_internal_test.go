package sdk

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/guard"
)

// guarded is one way to use a capability, found in the descriptors.
type guarded struct {
	method     string
	capability string
	request    proto.Message
}

// everyGuard walks the service's descriptors: each guarded method, field, enum
// value and Keeps area becomes a request that uses just that.
func everyGuard(t *testing.T) []guarded {
	t.Helper()
	var out []guarded
	methods := providerv1.File_sandbar_provider_v1_provider_proto.Services().Get(0).Methods()
	for i := range methods.Len() {
		m := methods.Get(i)
		full := fullMethod(string(m.Name()))
		empty := typed(t, dynamicpb.NewMessage(m.Input()))
		if id := guard.Method(full); id != "" {
			out = append(out, guarded{method: full, capability: id, request: empty})
		}
		fieldGuards(m.Input(), nil, func(path []protoreflect.FieldDescriptor, set func(protoreflect.Message), id string) {
			root := dynamicpb.NewMessage(m.Input())
			at := protoreflect.Message(root)
			for _, fd := range path {
				if fd.IsList() {
					at = at.Mutable(fd).List().AppendMutable().Message()
				} else {
					at = at.Mutable(fd).Message()
				}
			}
			set(at)
			out = append(out, guarded{method: full, capability: id, request: typed(t, root)})
		})
	}
	return out
}

// typed turns a dynamic message into the generated type.
func typed(t *testing.T, m proto.Message) proto.Message {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	name := m.ProtoReflect().Descriptor().FullName()
	out := newGenerated(t, name)
	if err := proto.Unmarshal(data, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func fieldGuards(md protoreflect.MessageDescriptor, path []protoreflect.FieldDescriptor,
	found func([]protoreflect.FieldDescriptor, func(protoreflect.Message), string),
) {
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		if id := guard.FieldRequires(fd); id != "" {
			found(path, func(m protoreflect.Message) { setAny(m, fd) }, id)
		}
		if area := guard.KeepsArea(fd); area != "" {
			for _, word := range []protoreflect.Name{"disk", "memory", "processes"} {
				bit := fd.Message().Fields().ByName(word)
				found(path, func(m protoreflect.Message) { m.Mutable(fd).Message().Set(bit, protoreflect.ValueOfBool(true)) }, area+"."+string(word))
			}
			continue
		}
		if fd.Enum() != nil {
			for j := range fd.Enum().Values().Len() {
				v := fd.Enum().Values().Get(j)
				if id := guard.ValueRequires(v); id != "" {
					found(path, func(m protoreflect.Message) { m.Set(fd, protoreflect.ValueOfEnum(v.Number())) }, id)
				}
			}
		}
		if fd.Message() != nil && !fd.IsMap() {
			fieldGuards(fd.Message(), append(slices.Clone(path), fd), found)
		}
	}
}

func setAny(m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	one := func() protoreflect.Value {
		switch fd.Kind() {
		case protoreflect.StringKind:
			return protoreflect.ValueOfString("x")
		case protoreflect.BoolKind:
			return protoreflect.ValueOfBool(true)
		case protoreflect.Int64Kind:
			return protoreflect.ValueOfInt64(1)
		case protoreflect.Uint32Kind:
			return protoreflect.ValueOfUint32(1)
		}
		panic("a guarded field of kind " + fd.Kind().String())
	}
	switch {
	case fd.IsList() && fd.Message() != nil:
		m.Mutable(fd).List().AppendMutable()
	case fd.IsList():
		m.Mutable(fd).List().Append(one())
	case fd.Message() != nil:
		m.Mutable(fd)
	default:
		m.Set(fd, one())
	}
}

func newGenerated(t *testing.T, name protoreflect.FullName) proto.Message {
	t.Helper()
	mt, err := protoregistry.GlobalTypes.FindMessageByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return mt.New().Interface()
}

// declaring returns a description that declares all capabilities but one.
func declaring(except string, disabled bool) *description {
	d := &description{answer: &providerv1.DescribeResponse{Name: "x"}, caps: map[string]*providerv1.Capability{}}
	for _, c := range guard.Registry() {
		if c.ID != except {
			d.caps[c.ID] = Supported(c.ID)[0]
		} else if disabled {
			d.caps[c.ID] = &providerv1.Capability{Id: c.ID, State: providerv1.CapabilityState_CAPABILITY_STATE_DISABLED, Reason: "not in this account"}
		}
	}
	return d
}

// TestEveryGuardInBothDirections is generated from the descriptors, so that a
// new guard cannot ship untested.
func TestEveryGuardInBothDirections(t *testing.T) {
	all := everyGuard(t)
	if len(all) < 60 {
		t.Fatalf("only %d guards found: the walk is broken", len(all))
	}
	for _, g := range all {
		name := g.method + " " + g.capability
		if err := declaring("", false).gate(g.method, proto.Clone(g.request)); err != nil {
			t.Errorf("%s: everything is declared and it was refused: %v", name, err)
		}
		err := fault.From(declaring(g.capability, false).gate(g.method, proto.Clone(g.request)))
		if err == nil || err.Reason != providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED || err.Metadata[fault.MetaCapability] != g.capability {
			t.Errorf("%s: not declared, and the gate said %v", name, err)
		}
		err = fault.From(declaring(g.capability, true).gate(g.method, proto.Clone(g.request)))
		if err == nil || err.Reason != providerv1.ErrorReason_ERROR_REASON_CAPABILITY_DISABLED || err.Metadata["why"] != "not in this account" {
			t.Errorf("%s: disabled, and the gate said %v", name, err)
		}
	}
}

func TestAbsentFieldsNeedWhatTheyMean(t *testing.T) {
	for _, tc := range []struct {
		method  string
		request proto.Message
		needs   string
	}{
		{"CreateSandbox", &providerv1.CreateSandboxRequest{}, "egress.deny"},
		{"CreateSandbox", &providerv1.CreateSandboxRequest{Spec: &providerv1.SandboxSpec{Egress: &providerv1.Egress{}}}, "egress.deny"},
		{"UpdateEgress", &providerv1.UpdateEgressRequest{}, "egress.deny"},
		{"PauseSandbox", &providerv1.PauseSandboxRequest{}, "pause.disk"},
		{"CreateSnapshot", &providerv1.CreateSnapshotRequest{}, "snapshot.disk"},
		{"RestoreSnapshot", &providerv1.RestoreSnapshotRequest{}, "snapshot.disk"},
		{"ForkSandbox", &providerv1.ForkSandboxRequest{}, "fork.disk"},
	} {
		err := fault.From(declaring(tc.needs, false).gate(fullMethod(tc.method), tc.request))
		if err == nil || err.Metadata[fault.MetaCapability] != tc.needs {
			t.Errorf("%s{%v}: %v, want a refusal for %s", tc.method, tc.request, err, tc.needs)
		}
	}
}
