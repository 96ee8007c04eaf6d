package request

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Empty returns a request with nothing in it.
func Empty(md protoreflect.MethodDescriptor) (proto.Message, error) {
	mt, err := protoregistry.GlobalTypes.FindMessageByName(md.Input().FullName())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", md.FullName(), err)
	}
	return mt.New().Interface(), nil
}

// Bad is a request with one field that is wrong, or at least strange.
type Bad struct {
	Field, What string
	Request     proto.Message
}

// Spoiled returns copies of a request, in each of which one of the fields that
// are set is spoiled in one way.
func Spoiled(req proto.Message) []Bad {
	var out []Bad
	spoil(req.ProtoReflect(), nil, func(path []protoreflect.FieldDescriptor) {
		names := make([]string, len(path))
		for i, fd := range path {
			names[i] = string(fd.Name())
		}
		for _, way := range ways(path[len(path)-1]) {
			copied := proto.Clone(req)
			m := copied.ProtoReflect()
			for _, fd := range path[:len(path)-1] {
				m = m.Mutable(fd).Message()
			}
			m.Set(path[len(path)-1], way.value)
			out = append(out, Bad{Field: strings.Join(names, "."), What: way.what, Request: copied})
		}
	})
	return out
}

// spoil calls f for each scalar field that is set.
func spoil(m protoreflect.Message, path []protoreflect.FieldDescriptor, f func([]protoreflect.FieldDescriptor)) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		here := slices.Concat(path, []protoreflect.FieldDescriptor{fd})
		switch {
		case !m.Has(fd) || fd.IsMap() || fd.IsList():
		case fd.Message() != nil:
			spoil(m.Get(fd).Message(), here, f)
		default:
			f(here)
		}
	}
}

type way struct {
	what  string
	value protoreflect.Value
}

// ways are how a field of a kind can be wrong.
func ways(fd protoreflect.FieldDescriptor) []way {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return []way{
			{"empty", protoreflect.ValueOfString("")},
			{"that climbs", protoreflect.ValueOfString("../../etc/passwd")},
			{"with NUL", protoreflect.ValueOfString("/a\x00b")},
			{"of 5000 bytes", protoreflect.ValueOfString("/" + strings.Repeat("x", 5000))},
		}
	case protoreflect.BytesKind:
		return []way{{"too short", protoreflect.ValueOfBytes([]byte{1})}}
	case protoreflect.EnumKind:
		return []way{{"unknown", protoreflect.ValueOfEnum(4242)}}
	case protoreflect.Int32Kind:
		return []way{{"below zero", protoreflect.ValueOfInt32(-1)}}
	case protoreflect.Int64Kind:
		return []way{{"below zero", protoreflect.ValueOfInt64(-1)}}
	case protoreflect.Uint32Kind:
		return []way{{"too large", protoreflect.ValueOfUint32(1 << 30)}}
	default:
		return nil
	}
}
