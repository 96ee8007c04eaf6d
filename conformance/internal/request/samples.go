package request

import (
	"crypto/sha256"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// scalars are what required fields hold, by the name that they have everywhere in
// the contract.
func (v Values) scalars() map[string]protoreflect.Value {
	digest := sha256.Sum256([]byte(v.Owner))
	return map[string]protoreflect.Value{
		"owner":          protoreflect.ValueOfString(v.Owner),
		"exec_id":        protoreflect.ValueOfString(Fresh("exe")),
		"snapshot_id":    protoreflect.ValueOfString(Fresh("snp")),
		"name":           protoreflect.ValueOfString("volume-of-the-suite"),
		"request_digest": protoreflect.ValueOfBytes(digest[:]),
		"path":           protoreflect.ValueOfString(v.Path),
		"paths":          protoreflect.ValueOfString(v.Path),
		"from":           protoreflect.ValueOfString(v.Path),
		"to":             protoreflect.ValueOfString(v.Path + "-moved"),
		"port":           protoreflect.ValueOfUint32(1),
		"signal":         protoreflect.ValueOfEnum(providerv1.ExecSignal_EXEC_SIGNAL_TERM.Number()),
	}
}

// kindOf tells the kinds apart that scalars has.
func kindOf(v protoreflect.Value) protoreflect.Kind {
	switch v.Interface().(type) {
	case string:
		return protoreflect.StringKind
	case []byte:
		return protoreflect.BytesKind
	case uint32:
		return protoreflect.Uint32Kind
	default:
		return protoreflect.EnumKind
	}
}

// scalar is a value that is not zero, and right where the contract says what is
// right.
func scalar(fd protoreflect.FieldDescriptor) protoreflect.Value {
	if text, ok := texts[fd.Name()]; ok && fd.Kind() == protoreflect.StringKind {
		return protoreflect.ValueOfString(text)
	}
	const (
		one  = 1
		mebi = 64 << 20 // enough for memory and disk, and for thousandths of a CPU a wish like any other
	)
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(one)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(one)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(8080)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		if n, ok := numbers[fd.Name()]; ok {
			return protoreflect.ValueOfInt64(n)
		}
		return protoreflect.ValueOfInt64(mebi)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(mebi)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(one)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(one)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte("sandbar"))
	default:
		return protoreflect.ValueOfString("sandbar")
	}
}

// texts and numbers are samples that a provider would accept.
var (
	texts = map[protoreflect.Name]string{
		"oci": "docker.io/library/busybox:latest", "host_path": "/tmp", "user": "1000", "hostname": "sandbar-suite",
	}
	numbers = map[protoreflect.Name]int64{"cpu_millis": 1000, "pids": 100}
)

// sampleInto fills a message that is used as a whole.
func sampleInto(m protoreflect.Message) {
	switch msg := m.Interface().(type) {
	case *durationpb.Duration:
		proto.Merge(msg, durationpb.New(10*time.Minute))
	case *providerv1.Terminal:
		msg.Rows, msg.Cols = 24, 80
	case *providerv1.Gpu:
		msg.Count = 1
	case *providerv1.EgressRule:
		msg.Allow, msg.Host = true, "example.com"
	}
}

// complete adds to a message that is used what it cannot be without.
func (v Values) complete(m protoreflect.Message) {
	switch msg := m.Interface().(type) {
	case *providerv1.Mount:
		msg.Target = "/mnt/suite"
		if msg.GetMode() == providerv1.MountMode_MOUNT_MODE_UNSPECIFIED {
			msg.Mode = providerv1.MountMode_MOUNT_MODE_RO
		}
		if msg.GetSource() == nil {
			msg.Source = &providerv1.Mount_Volume{Volume: "volume-of-the-suite"}
			if v.Has("mount.host") {
				msg.Source = &providerv1.Mount_HostPath{HostPath: "/tmp"}
			}
		}
	case *providerv1.Egress:
		if len(msg.GetRules()) > 0 {
			msg.Mode = providerv1.EgressMode_EGRESS_MODE_NATIVE
		}
	case *providerv1.WriteFileOpen:
		if msg.GetMode() == providerv1.WriteMode_WRITE_MODE_AT_OFFSET {
			msg.Offset = 1
		}
	}
}
