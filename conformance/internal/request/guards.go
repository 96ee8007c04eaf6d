package request

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/guard"
)

// Guard is one place in the contract that needs a capability.
type Guard struct {
	// Capability is the id.
	Capability string
	Method     protoreflect.MethodDescriptor
	// Path leads from the request to the guarded field; empty if the whole RPC is
	// guarded.
	Path []protoreflect.FieldDescriptor
	// Value is the guarded value of the field at the end of Path; nil if the field
	// is guarded as a whole.
	Value protoreflect.EnumValueDescriptor
}

// String is the method, with the path and the value if there are any.
func (g Guard) String() string {
	words := string(g.Method.Name())
	if len(g.Path) > 0 {
		names := make([]string, len(g.Path))
		for i, fd := range g.Path {
			names[i] = string(fd.Name())
		}
		words += " " + strings.Join(names, ".")
	}
	if g.Value != nil {
		words += "=" + string(g.Value.Name())
	}
	return words
}

// FullMethod is the method as gRPC names it.
func FullMethod(md protoreflect.MethodDescriptor) string {
	return "/" + string(md.Parent().FullName()) + "/" + string(md.Name())
}

// Service describes the provider's service.
func Service() protoreflect.ServiceDescriptor {
	return providerv1.File_sandbar_provider_v1_provider_proto.Services().ByName("ProviderService")
}

// Methods returns all RPCs of the provider's service.
func Methods() []protoreflect.MethodDescriptor {
	all := Service().Methods()
	out := make([]protoreflect.MethodDescriptor, all.Len())
	for i := range out {
		out[i] = all.Get(i)
	}
	return out
}

// GuardsOf returns every guard of a service, in the order of the schema.
func GuardsOf(service protoreflect.ServiceDescriptor) []Guard {
	var out []Guard
	for i := range service.Methods().Len() {
		md := service.Methods().Get(i)
		if id := methodGuard(md); id != "" {
			out = append(out, Guard{Capability: id, Method: md})
		}
		w := walker{method: md}
		w.message(md.Input(), nil)
		out = append(out, w.found...)
	}
	return out
}

type walker struct {
	method protoreflect.MethodDescriptor
	found  []Guard
}

func (w *walker) add(id string, path []protoreflect.FieldDescriptor, value protoreflect.EnumValueDescriptor) {
	if id != "" {
		w.found = append(w.found, Guard{Capability: id, Method: w.method, Path: path, Value: value})
	}
}

func (w *walker) message(md protoreflect.MessageDescriptor, path []protoreflect.FieldDescriptor) {
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		if slices.Contains(path, fd) { // a type that holds itself
			continue
		}
		w.field(fd, append(path[:len(path):len(path)], fd))
	}
}

func (w *walker) field(fd protoreflect.FieldDescriptor, path []protoreflect.FieldDescriptor) {
	w.add(guard.FieldRequires(fd), path, nil)
	if area := guard.KeepsArea(fd); area != "" {
		for i := range fd.Message().Fields().Len() {
			word := fd.Message().Fields().Get(i)
			w.add(area+"."+string(word.Name()), append(path[:len(path):len(path)], word), nil)
		}
		return
	}
	switch {
	case fd.Enum() != nil:
		for i := range fd.Enum().Values().Len() {
			value := fd.Enum().Values().Get(i)
			w.add(guard.ValueRequires(value), path, value)
		}
	case fd.Message() != nil && !fd.IsMap():
		w.message(fd.Message(), path)
	}
}

// NeedsSandbox reports whether an RPC is about a sandbox that exists.
func NeedsSandbox(md protoreflect.MethodDescriptor) bool {
	return holds(md.Input(), name[*providerv1.SandboxRef](), nil)
}

func holds(md protoreflect.MessageDescriptor, want protoreflect.FullName, seen []protoreflect.FullName) bool {
	if slices.Contains(seen, md.FullName()) {
		return false
	}
	seen = append(seen, md.FullName())
	for i := range md.Fields().Len() {
		sub := md.Fields().Get(i).Message()
		if sub != nil && (sub.FullName() == want || holds(sub, want, seen)) {
			return true
		}
	}
	return false
}

// Undeclared lists the capabilities that a request needs and that has does not
// know of.
func Undeclared(md protoreflect.MethodDescriptor, req proto.Message, has func(string) bool) []string {
	var out []string
	if id := methodGuard(md); id != "" && !has(id) {
		out = append(out, id)
	}
	for _, need := range guard.Uses(req) {
		if !has(need.Capability) && !slices.Contains(out, need.Capability) {
			out = append(out, need.Capability)
		}
	}
	return out
}
