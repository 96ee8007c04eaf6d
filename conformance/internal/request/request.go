package request

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/provider"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/guard"
)

// Values are what requests refer to.
type Values struct {
	Owner string
	// Sandbox is the one that calls are about.
	Sandbox *providerv1.SandboxRef
	// Spec makes a plain sandbox at this provider.
	Spec *providerv1.SandboxSpec
	// Path is a file inside that nobody needs.
	Path string
	// Has says what is declared, so that a request needs nothing else that is not.
	Has func(capability string) bool
}

// methodGuard reads the guard of an RPC off its descriptor.
func methodGuard(md protoreflect.MethodDescriptor) string {
	id, _ := proto.GetExtension(md.Options(), providerv1.E_Requires).(string)
	return id
}

// Fresh returns an id with a prefix such as sbx.
func Fresh(prefix string) string { return prefix + "_" + strings.ToLower(rand.Text()) }

// New returns a valid request for an RPC, or the valid first frame of a stream.
func New(md protoreflect.MethodDescriptor, v Values) (proto.Message, error) {
	mt, err := protoregistry.GlobalTypes.FindMessageByName(md.Input().FullName())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", md.FullName(), err)
	}
	m := mt.New()
	v.fill(m)
	return m.Interface(), nil
}

// Using returns a request that is valid but for the guarded thing that it uses.
func Using(g Guard, v Values) (proto.Message, error) {
	req, err := New(g.Method, v)
	if err != nil || len(g.Path) == 0 {
		return req, err
	}
	v.use(req.ProtoReflect(), g.Path, g.Value)
	return req, nil
}

// use sets the field at the end of path, and completes the messages on the way.
func (v Values) use(m protoreflect.Message, path []protoreflect.FieldDescriptor, value protoreflect.EnumValueDescriptor) {
	fd := path[0]
	if len(path) == 1 {
		switch {
		case value != nil:
			m.Set(fd, protoreflect.ValueOfEnum(value.Number()))
		default:
			set(m, fd)
		}
		v.complete(m)
		return
	}
	var inner protoreflect.Message
	if fd.IsList() {
		list := m.Mutable(fd).List()
		inner = list.AppendMutable().Message()
	} else {
		inner = m.Mutable(fd).Message()
	}
	v.use(inner, path[1:], value)
	v.complete(m)
}

// set gives a field some value that is not its zero.
func set(m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	switch {
	case fd.IsMap():
		m.Mutable(fd).Map().Set(scalar(fd.MapKey()).MapKey(), m.Mutable(fd).Map().NewValue())
	case fd.IsList() && fd.Message() != nil:
		sampleInto(m.Mutable(fd).List().AppendMutable().Message())
	case fd.IsList():
		m.Mutable(fd).List().Append(scalar(fd))
	case fd.Message() != nil:
		sampleInto(m.Mutable(fd).Message())
	default:
		m.Set(fd, scalar(fd))
	}
}

// fill sets what a valid request must have. What it does not know it leaves out.
func (v Values) fill(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if one := fd.ContainingOneof(); one != nil && one.Fields().Get(0) != fd {
			continue
		}
		if guard.FieldRequires(fd) == "" {
			v.fillField(m, fd)
		}
	}
}

func (v Values) fillField(m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	if sub := fd.Message(); sub != nil && !fd.IsMap() {
		v.fillMessage(m, fd)
		return
	}
	value, known := v.scalars()[string(fd.Name())]
	if !known || fd.IsMap() {
		return
	}
	if fd.IsList() {
		m.Mutable(fd).List().Append(value)
		return
	}
	if kindOf(value) == fd.Kind() {
		m.Set(fd, value)
	}
}

// fillMessage sets a field of message type, if its type is one of those that a
// request cannot do without.
func (v Values) fillMessage(m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	var value proto.Message
	switch fd.Message().FullName() {
	case name[*providerv1.SandboxRef]():
		value = v.Sandbox
	case name[*providerv1.Operation]():
		value = operation()
	case name[*providerv1.Identity]():
		value = &providerv1.Identity{SandboxId: Fresh("sbx"), Owner: v.Owner}
	case name[*providerv1.SandboxSpec]():
		value = v.Spec
	case name[*providerv1.ExecSpec]():
		value = &providerv1.ExecSpec{Argv: []string{"true"}}
	case name[*providerv1.Keeps]():
		value = v.Least(guard.KeepsArea(fd))
	case name[*timestamppb.Timestamp]():
		value = timestamppb.New(time.Now().Add(time.Hour))
	case name[*providerv1.ExecInput](), name[*providerv1.ExecOpen](), name[*providerv1.TunnelFrame](), name[*providerv1.TunnelOpen](),
		name[*providerv1.PortTarget](), name[*providerv1.WriteFileOpen](), name[*providerv1.UploadArchiveOpen]():
		v.fill(m.Mutable(fd).Message())
		return
	}
	if value == nil || !value.ProtoReflect().IsValid() {
		return
	}
	value = proto.Clone(value)
	if fd.IsList() {
		m.Mutable(fd).List().Append(protoreflect.ValueOfMessage(value.ProtoReflect()))
		return
	}
	m.Set(fd, protoreflect.ValueOfMessage(value.ProtoReflect()))
}

func name[M proto.Message]() protoreflect.FullName {
	var m M
	return m.ProtoReflect().Descriptor().FullName()
}

func operation() *providerv1.Operation {
	key := provider.NewKey()
	digest := sha256.Sum256([]byte(key))
	return &providerv1.Operation{IdempotencyKey: key, RequestDigest: digest[:]}
}

// Least is the least that can be asked to be kept without asking for what is not
// declared; area is pause, snapshot or fork.
func (v Values) Least(area string) *providerv1.Keeps {
	switch {
	case v.Has(area + ".disk"):
		return &providerv1.Keeps{Disk: true}
	case v.Has(area + ".memory"):
		return &providerv1.Keeps{Memory: true}
	case v.Has(area + ".processes"):
		return &providerv1.Keeps{Processes: true}
	}
	return nil
}

// Send sends a request, or the only frame of a stream, and waits for the end.
func Send(ctx context.Context, conn grpc.ClientConnInterface, md protoreflect.MethodDescriptor, req proto.Message) error {
	mt, err := protoregistry.GlobalTypes.FindMessageByName(md.Output().FullName())
	if err != nil {
		return fmt.Errorf("%s: %w", md.FullName(), err)
	}
	if !md.IsStreamingClient() && !md.IsStreamingServer() {
		return conn.Invoke(ctx, FullMethod(md), req, mt.New().Interface()) //nolint:wrapcheck // it is the peer's answer
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	desc := &grpc.StreamDesc{ServerStreams: md.IsStreamingServer(), ClientStreams: md.IsStreamingClient()}
	stream, err := conn.NewStream(ctx, desc, FullMethod(md))
	if err != nil {
		return err //nolint:wrapcheck // it is the peer's answer
	}
	// A stream that is refused at once takes no frame; why is what Recv says.
	if err := stream.SendMsg(req); err == nil {
		_ = stream.CloseSend()
	}
	for {
		err := stream.RecvMsg(mt.New().Interface())
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err //nolint:wrapcheck // it is the peer's answer
		}
	}
}
