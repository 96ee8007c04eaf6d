package stage

import (
	"strings"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Difference says in which fields two messages of one type differ, a line
// beginning with - for what the first has and one with + for the second. It is
// empty if they are equal.
//
// It is for messages that a case expects to be equal. The suite is linked into
// the command line tool, of which every start would pay for a library that
// compares anything.
func Difference(before, after proto.Message) string {
	if proto.Equal(before, after) {
		return ""
	}
	d := differ{}
	d.message("", before.ProtoReflect(), after.ProtoReflect())
	return strings.Join(d.lines, "\n")
}

type differ struct{ lines []string }

func (d *differ) message(path string, before, after protoreflect.Message) {
	fields := before.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		inBoth := before.Has(field) && after.Has(field)
		switch {
		case before.Has(field) == after.Has(field) && before.Get(field).Equal(after.Get(field)):
		case inBoth && field.Message() != nil && field.Cardinality() != protoreflect.Repeated:
			d.message(path+string(field.Name())+".", before.Get(field).Message(), after.Get(field).Message())
		default:
			d.field("- "+path, field, before)
			d.field("+ "+path, field, after)
		}
	}
	if string(before.GetUnknown()) != string(after.GetUnknown()) {
		d.lines = append(d.lines, "the fields of "+strings.TrimSuffix("the message."+path, ".")+" that this suite does not know differ")
	}
}

// field writes a line with what a message has in one field, if it has anything.
func (d *differ) field(prefix string, field protoreflect.FieldDescriptor, m protoreflect.Message) {
	if !m.Has(field) {
		return
	}
	alone := m.New()
	alone.Set(field, m.Get(field))
	d.lines = append(d.lines, prefix+prototext.MarshalOptions{}.Format(alone.Interface()))
}
