package subject

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// brokerConn presents a broker's public API as the provider contract. Calls that
// act inside a sandbox take the contract's messages at both ends and are only
// addressed anew; the others are put into the API's words. What a broker keeps to
// itself is UNIMPLEMENTED. Errors are the broker's own, with their details.
type brokerConn struct {
	conn     *grpc.ClientConn
	provider string
	names    *names
	target   *brokered
}

// inside are the calls that both services have, with the same messages.
var inside = []string{
	"StartExec", "AttachExec", "GetExec", "SignalExec", "ListExecs", "ReadFile", "WriteFile", "StatFile", "ListFiles",
	"MakeDirectory", "RemoveFile", "MoveFile", "DiffFiles", "DownloadArchive", "UploadArchive", "ListPorts", "OpenTunnel", "GetUsage",
}

// hidden is the answer to calls that a broker keeps to itself.
func hidden(method string) error {
	return status.Errorf(codes.Unimplemented, "a broker keeps %s to itself", method)
}

// Invoke implements grpc.ClientConnInterface.
func (c *brokerConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	name := strings.TrimPrefix(method, contract)
	request, ok := args.(proto.Message)
	answer, ok2 := reply.(proto.Message)
	if !ok || !ok2 {
		return status.Errorf(codes.Internal, "%s: no messages", name)
	}
	if slices.Contains(inside, name) {
		request = proto.Clone(request)
		if err := c.address(ctx, request); err != nil {
			return err
		}
		if err := c.conn.Invoke(ctx, sandboxService+name, request, answer, opts...); err != nil {
			return err
		}
		c.rename(answer)
		return nil
	}
	out, err := c.translate(ctx, request)
	if err != nil {
		return err
	}
	if out == nil {
		return hidden(name)
	}
	proto.Merge(answer, out)
	return nil
}

// NewStream implements grpc.ClientConnInterface.
func (c *brokerConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	name := strings.TrimPrefix(method, contract)
	if !slices.Contains(inside, name) {
		return nil, hidden(name)
	}
	stream, err := c.conn.NewStream(ctx, desc, sandboxService+name, opts...)
	if err != nil {
		return nil, err
	}
	return &addressed{ClientStream: stream, conn: c}, nil
}

// addressed is a stream whose first message names a sandbox.
type addressed struct {
	grpc.ClientStream
	conn *brokerConn
	sent bool
}

// SendMsg implements grpc.ClientStream.
func (s *addressed) SendMsg(m any) error {
	msg, ok := m.(proto.Message)
	if s.sent || !ok {
		return s.ClientStream.SendMsg(m)
	}
	s.sent = true
	msg = proto.Clone(msg)
	if err := s.conn.address(s.Context(), msg); err != nil {
		return err
	}
	return s.ClientStream.SendMsg(msg)
}

// address puts the broker's ids into a request, and takes handles out.
func (c *brokerConn) address(ctx context.Context, m proto.Message) error {
	var err error
	eachMessage(m.ProtoReflect(), func(part protoreflect.Message) bool {
		ref, ok := part.Interface().(*providerv1.SandboxRef)
		if !ok {
			return err == nil
		}
		ref.Handle = nil
		ref.SandboxId, err = c.sandboxID(ctx, ref.GetSandboxId())
		return false
	})
	return err
}

// sandboxID is the broker's id of a sandbox. One that nobody remembers is looked
// for by its label.
func (c *brokerConn) sandboxID(ctx context.Context, ours string) (string, error) {
	theirs, ok := c.names.their(ours)
	if ok || ours == "" {
		return theirs, nil
	}
	var found brokerv1.ListSandboxesResponse
	req := &brokerv1.ListSandboxesRequest{Provider: c.provider, Labels: map[string]string{labelID: ours}}
	if err := c.call(ctx, "ListSandboxes", req, &found); err != nil {
		f := fault.From(err)
		if fault.Has(f, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID) {
			return ours, nil // no id that a label could hold: the broker refuses it below
		}
		return "", err
	}
	for _, sb := range found.GetSandboxes() {
		return sb.GetSandboxId(), nil
	}
	return ours, nil
}

// rename puts the case's ids into an answer.
func (c *brokerConn) rename(m proto.Message) {
	eachMessage(m.ProtoReflect(), func(part protoreflect.Message) bool {
		if exec, ok := part.Interface().(*providerv1.Exec); ok {
			exec.SandboxId = c.names.our(exec.GetSandboxId())
			return false
		}
		return true
	})
}

// call calls the public API.
func (c *brokerConn) call(ctx context.Context, method string, req, resp proto.Message) error {
	return c.conn.Invoke(ctx, sandboxService+method, req, resp)
}
