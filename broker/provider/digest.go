package provider

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// keyLength is the contract's: 130 bits.
const keyLength = 26

// NewKey returns a fresh idempotency key: 26 random characters of base32 in
// lower case, which every vendor takes as the value of a label.
func NewKey() string { return strings.ToLower(rand.Text()[:keyLength]) }

// Digest returns the SHA-256 that says whether two requests ask for the same
// thing. It leaves out what may differ between attempts at one operation: keys
// and digests, the ids that the broker gives to what is made, and handles, which
// are the plugin's memory of a sandbox that its id names already.
//
// The encoding is this function's own, because protobuf promises none that is
// the same in the next version; it depends on field numbers and values only, so
// a field that is added later and not set changes nothing.
func Digest(msg proto.Message) []byte {
	sum := sha256.Sum256(encode(nil, msg.ProtoReflect()))
	return sum[:]
}

var (
	// volatileMessages are left out wherever they stand.
	volatileMessages = []protoreflect.FullName{
		(&providerv1.Operation{}).ProtoReflect().Descriptor().FullName(),
		(&providerv1.Handle{}).ProtoReflect().Descriptor().FullName(),
	}
	// volatileFields are ids of what the call makes.
	volatileFields = []protoreflect.FullName{
		"sandbar.provider.v1.Identity.sandbox_id",
		"sandbar.provider.v1.StartExecRequest.exec_id",
		"sandbar.provider.v1.StartExecRequest.request_digest",
		"sandbar.provider.v1.CreateSnapshotRequest.snapshot_id",
	}
)

func volatile(fd protoreflect.FieldDescriptor) bool {
	if md := fd.Message(); md != nil && slices.Contains(volatileMessages, md.FullName()) {
		return true
	}
	return slices.Contains(volatileFields, fd.FullName())
}

// encode appends the present fields by number: number, length, content.
func encode(b []byte, m protoreflect.Message) []byte {
	var fields []protoreflect.FieldDescriptor
	m.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if !volatile(fd) {
			fields = append(fields, fd)
		}
		return true
	})
	slices.SortFunc(fields, func(x, y protoreflect.FieldDescriptor) int { return int(x.Number()) - int(y.Number()) })
	for _, fd := range fields {
		b = binary.AppendUvarint(b, uint64(fd.Number()))
		b = appendBlock(b, encodeField(fd, m.Get(fd)))
	}
	return b
}

func appendBlock(b, content []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(content)))
	return append(b, content...)
}

func encodeField(fd protoreflect.FieldDescriptor, v protoreflect.Value) []byte {
	var b []byte
	switch {
	case fd.IsList():
		for i := range v.List().Len() {
			b = appendBlock(b, encodeValue(fd, v.List().Get(i)))
		}
	case fd.IsMap():
		var entries []string
		v.Map().Range(func(k protoreflect.MapKey, e protoreflect.Value) bool {
			entry := appendBlock(nil, encodeValue(fd.MapKey(), k.Value()))
			entries = append(entries, string(appendBlock(entry, encodeValue(fd.MapValue(), e))))
			return true
		})
		slices.Sort(entries)
		for _, entry := range entries {
			b = append(b, entry...)
		}
	default:
		b = encodeValue(fd, v)
	}
	return b
}

func encodeValue(fd protoreflect.FieldDescriptor, v protoreflect.Value) []byte {
	switch x := v.Interface().(type) {
	case protoreflect.Message:
		return encode(nil, x)
	case string:
		return []byte(x)
	case []byte:
		return x
	case bool:
		if x {
			return []byte{1}
		}
		return []byte{0}
	case int32:
		return binary.AppendVarint(nil, int64(x))
	case int64:
		return binary.AppendVarint(nil, x)
	case uint32:
		return binary.AppendUvarint(nil, uint64(x))
	case uint64:
		return binary.AppendUvarint(nil, x)
	case float32:
		return binary.BigEndian.AppendUint32(nil, math.Float32bits(x))
	case float64:
		return binary.BigEndian.AppendUint64(nil, math.Float64bits(x))
	case protoreflect.EnumNumber:
		return binary.AppendVarint(nil, int64(x))
	default: // protobuf has no other kinds
		panic(fmt.Sprintf("field %s has a value of type %T", fd.FullName(), x))
	}
}
