package capability

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/request"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/guard"
)

// TestEveryCapabilityHasAUse keeps a capability without a use out of the
// registry.
func TestEveryCapabilityHasAUse(t *testing.T) {
	all := uses()
	for _, c := range guard.Registry() {
		if all[c.ID].run == nil {
			t.Errorf("capability %s has no use: write one in uses", c.ID)
		}
		delete(all, c.ID)
	}
	for id := range all {
		t.Errorf("%s has a use and is not in the registry", id)
	}
}

// TestEveryGuardIsRefused holds the generated cases and the registry together: a
// capability without a refusal is one that no request can ask for.
func TestEveryGuardIsRefused(t *testing.T) {
	for _, c := range guard.Registry() {
		made := slices.ContainsFunc(Cases(), func(e engine.Case) bool { return e.ID == "cap/"+c.ID+"/refused" })
		if promise := c.ID == "exec.reattach"; made == promise {
			t.Errorf("capability %s has a refusal: %v, want %v", c.ID, made, !promise)
		}
	}
	values := request.Values{Owner: "o", Has: func(string) bool { return false }, Sandbox: &providerv1.SandboxRef{SandboxId: "s"}, Path: "/x", Spec: &providerv1.SandboxSpec{}}
	for _, g := range request.GuardsOf(request.Service()) {
		req, err := request.Using(g, values)
		if err != nil {
			t.Errorf("%s: %v", g, err)
			continue
		}
		if got := request.Undeclared(g.Method, req, values.Has); !slices.Contains(got, g.Capability) {
			t.Errorf("%s: the generated request needs %q, want %s among them:\n%v", g, got, g.Capability, req)
		}
	}
}

// TestNewGuardsHaveTheirCase adds a field, a value and an RPC to a copy of the
// contract and finds their cases.
func TestNewGuardsHaveTheirCase(t *testing.T) {
	const name = "CreateSandboxRequest"
	file := protodesc.ToFileDescriptorProto(providerv1.File_sandbar_provider_v1_provider_proto)
	file.Name = proto.String("copy/provider.proto")
	file.Package = proto.String("copy.v1")
	rename(file)
	for _, m := range file.GetMessageType() {
		if m.GetName() == name {
			options := &descriptorpb.FieldOptions{}
			proto.SetExtension(options, providerv1.E_FieldRequires, "x-copy.field")
			m.Field = append(m.Field, &descriptorpb.FieldDescriptorProto{
				Name: proto.String("addition"), Number: proto.Int32(4242), JsonName: proto.String("addition"),
				Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Options: options,
			})
		}
	}
	options := &descriptorpb.MethodOptions{}
	proto.SetExtension(options, providerv1.E_Requires, "x-copy.method")
	service := file.GetService()[0]
	service.Method = append(service.Method, &descriptorpb.MethodDescriptorProto{
		Name: proto.String("Addition"), InputType: proto.String(".copy.v1.ProbeRequest"), OutputType: proto.String(".copy.v1.ProbeResponse"), Options: options,
	})
	built, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	copied := built.Services().Get(0)
	guards := request.GuardsOf(copied)
	if before := len(request.GuardsOf(request.Service())); len(guards) != before+2 {
		t.Errorf("the copy has %d guards: want the %d of the contract and 2", len(guards), before)
	}
	cases := refusedOf(guards)
	for _, id := range []string{"x-copy.field", "x-copy.method"} {
		if !slices.ContainsFunc(cases, func(c engine.Case) bool { return c.ID == "cap/"+id+"/refused" && c.Denies == id }) {
			t.Errorf("what needs %s has no case", id)
		}
	}
}

// rename moves references inside a copied file to its own package. References to
// the other files of the contract stay.
func rename(file *descriptorpb.FileDescriptorProto) {
	own := map[string]bool{}
	for _, m := range file.GetMessageType() {
		own[".sandbar.provider.v1."+m.GetName()] = true
	}
	for _, e := range file.GetEnumType() {
		own[".sandbar.provider.v1."+e.GetName()] = true
	}
	move := func(name *string) {
		if name != nil && own[*name] {
			*name = ".copy.v1." + string(protoreflect.FullName((*name)[1:]).Name())
		}
	}
	for _, m := range file.GetMessageType() {
		for _, f := range m.GetField() {
			move(f.TypeName)
		}
		for _, n := range m.GetNestedType() { // map entries
			for _, f := range n.GetField() {
				move(f.TypeName)
			}
		}
		for _, f := range m.GetField() {
			for _, n := range m.GetNestedType() {
				if f.GetTypeName() == ".sandbar.provider.v1."+m.GetName()+"."+n.GetName() {
					f.TypeName = proto.String(".copy.v1." + m.GetName() + "." + n.GetName())
				}
			}
		}
	}
	for _, s := range file.GetService() {
		for _, m := range s.GetMethod() {
			move(m.InputType)
			move(m.OutputType)
		}
	}
}
