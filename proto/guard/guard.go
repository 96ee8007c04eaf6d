package guard

import (
	"slices"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Need is one capability that a request uses.
type Need struct {
	// Capability is the id.
	Capability string
	// Field is the path that uses it, such as spec.resources.gpu.
	Field string
}

// methods caches what methodRequires returns, by name.
var methods sync.Map

// Method returns the capability that a whole RPC needs, or "". method is the
// gRPC name, /package.Service/Method.
func Method(method string) string {
	if v, ok := methods.Load(method); ok {
		id, _ := v.(string)
		return id
	}
	id, known := methodRequires(method)
	if known { // names that are made up would fill the cache
		methods.Store(method, id)
	}
	return id
}

func methodRequires(method string) (id string, known bool) {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return "", false
	}
	md, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		return "", false
	}
	id, _ = proto.GetExtension(md.Options(), providerv1.E_Requires).(string)
	return id, true
}

// Uses returns what the present fields of msg need, in field order, each pair
// once. A nil or empty message needs nothing.
func Uses(msg proto.Message) []Need {
	if msg == nil {
		return nil
	}
	var out []Need
	walk(msg.ProtoReflect(), "", &out)
	return out
}

func walk(m protoreflect.Message, prefix string, out *[]Need) {
	if !m.IsValid() || !guarded(m.Descriptor()) {
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if m.Has(fd) {
			field(fd, m.Get(fd), prefix+string(fd.Name()), out)
		}
	}
}

// fieldGuards is what the options of a field say; reading options is slow.
type fieldGuards struct{ requires, keepsArea string }

var fieldGuardsOf sync.Map // by the field's full name

func guardsOf(fd protoreflect.FieldDescriptor) fieldGuards {
	if v, ok := fieldGuardsOf.Load(fd.FullName()); ok {
		g, _ := v.(fieldGuards)
		return g
	}
	g := fieldGuards{FieldRequires(fd), KeepsArea(fd)}
	fieldGuardsOf.Store(fd.FullName(), g)
	return g
}

func field(fd protoreflect.FieldDescriptor, v protoreflect.Value, path string, out *[]Need) {
	guards := guardsOf(fd)
	if id := guards.requires; id != "" {
		*out = append(*out, Need{Capability: id, Field: path})
	}
	if area := guards.keepsArea; area != "" {
		keeps, ok := v.Message().Interface().(*providerv1.Keeps)
		if ok {
			*out = append(*out, KeepsNeeds(area, path, keeps)...)
		}
		return
	}
	switch {
	case fd.IsMap():
		if fd.MapValue().Message() == nil {
			return
		}
		v.Map().Range(func(k protoreflect.MapKey, e protoreflect.Value) bool {
			walk(e.Message(), path+"["+strconv.Quote(k.String())+"].", out)
			return true
		})
	case fd.IsList():
		for i := range v.List().Len() {
			value(fd, v.List().Get(i), path+"["+strconv.Itoa(i)+"]", out)
		}
	default:
		value(fd, v, path, out)
	}
}

func value(fd protoreflect.FieldDescriptor, v protoreflect.Value, path string, out *[]Need) {
	switch {
	case fd.Message() != nil:
		walk(v.Message(), path+".", out)
	case fd.Enum() != nil:
		ev := fd.Enum().Values().ByNumber(v.Enum())
		if ev == nil {
			return
		}
		if id := ValueRequires(ev); id != "" {
			*out = append(*out, Need{Capability: id, Field: path})
		}
	}
}

// KeepsNeeds returns what asking for keeps in an area needs.
func KeepsNeeds(area, path string, keeps *providerv1.Keeps) []Need {
	var out []Need
	for _, k := range []struct {
		asked bool
		name  string
	}{{keeps.GetDisk(), "disk"}, {keeps.GetMemory(), "memory"}, {keeps.GetProcesses(), "processes"}} {
		if k.asked {
			out = append(out, Need{Capability: area + "." + k.name, Field: path + "." + k.name})
		}
	}
	return out
}

// FieldRequires returns the capability that a present field needs, or "".
func FieldRequires(fd protoreflect.FieldDescriptor) string {
	id, _ := proto.GetExtension(fd.Options(), providerv1.E_FieldRequires).(string)
	return id
}

// KeepsArea returns the capability area of a field of type Keeps, or "".
func KeepsArea(fd protoreflect.FieldDescriptor) string {
	area, _ := proto.GetExtension(fd.Options(), providerv1.E_KeepsArea).(string)
	return area
}

// ValueRequires returns the capability that an enum value needs, or "".
func ValueRequires(ev protoreflect.EnumValueDescriptor) string {
	id, _ := proto.GetExtension(ev.Options(), providerv1.E_ValueRequires).(string)
	return id
}

// guardedTypes caches, by full name, whether a message type can hold a guard, so
// that frames of a stream cost one map look-up.
var guardedTypes sync.Map

func guarded(md protoreflect.MessageDescriptor) bool {
	if v, ok := guardedTypes.Load(md.FullName()); ok {
		hit, _ := v.(bool)
		return hit
	}
	hit := holdsGuard(md, nil)
	guardedTypes.Store(md.FullName(), hit)
	return hit
}

func holdsGuard(md protoreflect.MessageDescriptor, seen []protoreflect.FullName) bool {
	if slices.Contains(seen, md.FullName()) {
		return false
	}
	seen = append(seen, md.FullName())
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		if FieldRequires(fd) != "" || KeepsArea(fd) != "" || enumGuarded(fd.Enum()) {
			return true
		}
		sub := fd.Message()
		if fd.IsMap() {
			sub = fd.MapValue().Message()
		}
		if sub != nil && holdsGuard(sub, seen) {
			return true
		}
	}
	return false
}

func enumGuarded(ed protoreflect.EnumDescriptor) bool {
	if ed == nil {
		return false
	}
	for i := range ed.Values().Len() {
		if ValueRequires(ed.Values().Get(i)) != "" {
			return true
		}
	}
	return false
}
