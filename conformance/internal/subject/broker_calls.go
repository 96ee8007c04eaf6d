package subject

import (
	"context"
	"encoding/hex"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// translate makes a call of the contract in the API's words. It returns nil for
// one that the API does not have.
func (c *brokerConn) translate(ctx context.Context, request proto.Message) (proto.Message, error) {
	switch req := request.(type) {
	case *providerv1.DescribeRequest:
		return answered(c.describe(ctx))
	case *providerv1.ProbeRequest:
		var resp brokerv1.ProbeProviderResponse
		err := c.conn.Invoke(ctx, adminService+"ProbeProvider", &brokerv1.ProbeProviderRequest{Name: c.provider}, &resp)
		return answered(resp.GetProbe(), err)
	case *providerv1.CreateSandboxRequest:
		return answered(c.create(ctx, req))
	case *providerv1.GetSandboxRequest:
		return c.get(ctx, req)
	case *providerv1.ListSandboxesRequest:
		return answered(c.list(ctx, req))
	case *providerv1.DeleteSandboxRequest:
		return answered(c.remove(ctx, req))
	case *providerv1.PauseSandboxRequest:
		return answered(c.pause(ctx, req))
	case *providerv1.ResumeSandboxRequest:
		return answered(c.resume(ctx, req))
	case *providerv1.ExtendLifetimeRequest:
		return answered(c.extend(ctx, req))
	case *providerv1.ForkSandboxRequest:
		return answered(c.fork(ctx, req))
	case *providerv1.CreateSnapshotRequest:
		return answered(c.createSnapshot(ctx, req))
	case *providerv1.ListSnapshotsRequest:
		return answered(c.listSnapshots(ctx, req))
	case *providerv1.DeleteSnapshotRequest:
		return answered(c.deleteSnapshot(ctx, req))
	case *providerv1.RestoreSnapshotRequest:
		return answered(c.restore(ctx, req))
	case *providerv1.CreateVolumeRequest:
		return answered(c.createVolume(ctx, req))
	case *providerv1.ListVolumesRequest:
		return answered(c.listVolumes(ctx, req))
	case *providerv1.DeleteVolumeRequest:
		return answered(c.deleteVolume(ctx, req))
	}
	return nil, nil
}

// answered is an answer as a message that is nil only with an error.
func answered[M proto.Message](m M, err error) (proto.Message, error) {
	if err != nil {
		return nil, err
	}
	return m, nil
}

// carried are the labels of what one operation makes.
func carried(id *providerv1.Identity, op *providerv1.Operation) map[string]string {
	return map[string]string{
		labelID: id.GetSandboxId(), labelOwner: id.GetOwner(),
		labelKey: op.GetIdempotencyKey(), labelDigest: hex.EncodeToString(op.GetRequestDigest()),
	}
}

// sandbox is one of the broker's as the contract has it.
func (c *brokerConn) sandbox(sb *brokerv1.Sandbox) *providerv1.Sandbox {
	out := proto.CloneOf(sb.GetObserved())
	if out == nil {
		out = &providerv1.Sandbox{}
	}
	labels := sb.GetLabels()
	out.Handle, out.Operation = nil, nil
	out.Identity = c.names.identity(sb.GetSandboxId(), labels)
	out.State, out.StatusReason = sb.GetState(), sb.GetStatusReason()
	out.ExpiresAt = sb.GetExpiresAt()
	if out.CreatedAt == nil {
		out.CreatedAt = sb.GetCreatedAt()
	}
	if digest, err := hex.DecodeString(labels[labelDigest]); err == nil && labels[labelKey] != "" {
		out.Operation = &providerv1.Operation{IdempotencyKey: labels[labelKey], RequestDigest: digest}
	}
	return out
}

// made takes note of what a call made, and returns it.
func (c *brokerConn) made(id *providerv1.Identity, sb *brokerv1.Sandbox) *providerv1.Sandbox {
	c.names.sandbox(id, sb.GetSandboxId())
	return c.sandbox(sb)
}

// create leaves the lifetime in the spec, where it is the provider's to promise,
// so that a broker refuses it where the provider cannot.
func (c *brokerConn) create(ctx context.Context, req *providerv1.CreateSandboxRequest) (*providerv1.CreateSandboxResponse, error) {
	var resp brokerv1.CreateSandboxResponse
	err := c.call(ctx, "CreateSandbox", &brokerv1.CreateSandboxRequest{
		Provider: c.provider, Spec: req.GetSpec(), IdempotencyKey: req.GetOperation().GetIdempotencyKey(),
		Labels: labelled(req.GetIdentity().GetLabels(), carried(req.GetIdentity(), req.GetOperation())),
	}, &resp)
	if err != nil {
		return nil, err
	}
	return &providerv1.CreateSandboxResponse{Sandbox: c.made(req.GetIdentity(), resp.GetSandbox())}, nil
}

// get asks the provider, not the broker's memory. A broker does not tell which
// sandbox a key made, but by making the same call again.
func (c *brokerConn) get(ctx context.Context, req *providerv1.GetSandboxRequest) (proto.Message, error) {
	if _, byRef := req.GetBy().(*providerv1.GetSandboxRequest_Sandbox); !byRef {
		return nil, nil
	}
	id, err := c.sandboxID(ctx, req.GetSandbox().GetSandboxId())
	if err != nil {
		return nil, err
	}
	var resp brokerv1.GetSandboxResponse
	if err := c.call(ctx, "GetSandbox", &brokerv1.GetSandboxRequest{Sandbox: id, Refresh: true}, &resp); err != nil {
		return nil, err
	}
	return &providerv1.GetSandboxResponse{Sandbox: c.sandbox(resp.GetSandbox())}, nil
}

func (c *brokerConn) list(ctx context.Context, req *providerv1.ListSandboxesRequest) (*providerv1.ListSandboxesResponse, error) {
	var resp brokerv1.ListSandboxesResponse
	err := c.call(ctx, "ListSandboxes", &brokerv1.ListSandboxesRequest{
		Provider: c.provider, Labels: map[string]string{labelOwner: req.GetOwner()}, PageSize: req.GetPageSize(), PageToken: req.GetPageToken(),
	}, &resp)
	if err != nil {
		return nil, err
	}
	out := &providerv1.ListSandboxesResponse{NextPageToken: resp.GetNextPageToken()}
	for _, sb := range resp.GetSandboxes() {
		out.Sandboxes = append(out.Sandboxes, c.sandbox(sb))
	}
	return out, nil
}

func (c *brokerConn) remove(ctx context.Context, req *providerv1.DeleteSandboxRequest) (*providerv1.DeleteSandboxResponse, error) {
	id, err := c.sandboxID(ctx, req.GetSandbox().GetSandboxId())
	if err != nil {
		return nil, err
	}
	var resp brokerv1.DeleteSandboxResponse
	if err := c.call(ctx, "DeleteSandbox", &brokerv1.DeleteSandboxRequest{Sandbox: id}, &resp); err != nil {
		return nil, err
	}
	return &providerv1.DeleteSandboxResponse{AlreadyAbsent: resp.GetAlreadyAbsent()}, nil
}

func (c *brokerConn) pause(ctx context.Context, req *providerv1.PauseSandboxRequest) (*providerv1.PauseSandboxResponse, error) {
	id, err := c.sandboxID(ctx, req.GetSandbox().GetSandboxId())
	if err != nil {
		return nil, err
	}
	var resp brokerv1.PauseSandboxResponse
	if err := c.call(ctx, "PauseSandbox", &brokerv1.PauseSandboxRequest{Sandbox: id, Minimum: req.GetMinimum()}, &resp); err != nil {
		return nil, err
	}
	return &providerv1.PauseSandboxResponse{Sandbox: c.sandbox(resp.GetSandbox())}, nil
}

func (c *brokerConn) resume(ctx context.Context, req *providerv1.ResumeSandboxRequest) (*providerv1.ResumeSandboxResponse, error) {
	id, err := c.sandboxID(ctx, req.GetSandbox().GetSandboxId())
	if err != nil {
		return nil, err
	}
	var resp brokerv1.ResumeSandboxResponse
	if err := c.call(ctx, "ResumeSandbox", &brokerv1.ResumeSandboxRequest{Sandbox: id}, &resp); err != nil {
		return nil, err
	}
	return &providerv1.ResumeSandboxResponse{Sandbox: c.sandbox(resp.GetSandbox())}, nil
}

func (c *brokerConn) extend(ctx context.Context, req *providerv1.ExtendLifetimeRequest) (*providerv1.ExtendLifetimeResponse, error) {
	id, err := c.sandboxID(ctx, req.GetSandbox().GetSandboxId())
	if err != nil {
		return nil, err
	}
	var resp brokerv1.ExtendSandboxResponse
	if err := c.call(ctx, "ExtendSandbox", &brokerv1.ExtendSandboxRequest{Sandbox: id, ExpiresAt: req.GetExpiresAt()}, &resp); err != nil {
		return nil, err
	}
	return &providerv1.ExtendLifetimeResponse{Sandbox: c.sandbox(resp.GetSandbox())}, nil
}

// fork makes copies. They share one set of labels, which must not say that they
// are the sandbox they were made from.
func (c *brokerConn) fork(ctx context.Context, req *providerv1.ForkSandboxRequest) (*providerv1.ForkSandboxResponse, error) {
	id, err := c.sandboxID(ctx, req.GetSandbox().GetSandboxId())
	if err != nil {
		return nil, err
	}
	shared := &providerv1.Identity{SandboxId: "copy", Labels: map[string]string{}}
	if ids := req.GetIdentities(); len(ids) > 0 {
		shared.Owner, shared.Labels = ids[0].GetOwner(), ids[0].GetLabels()
	}
	var resp brokerv1.ForkSandboxResponse
	err = c.call(ctx, "ForkSandbox", &brokerv1.ForkSandboxRequest{
		Sandbox: id, Count: int32(len(req.GetIdentities())), Minimum: req.GetMinimum(),
		Labels: labelled(shared.GetLabels(), carried(shared, req.GetOperation())), IdempotencyKey: req.GetOperation().GetIdempotencyKey(),
	}, &resp)
	if err != nil {
		return nil, err
	}
	if got, want := len(resp.GetSandboxes()), len(req.GetIdentities()); got != want {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL, "the broker answered with %d copies instead of %d", got, want)
	}
	out := &providerv1.ForkSandboxResponse{}
	for i, sb := range resp.GetSandboxes() {
		out.Sandboxes = append(out.Sandboxes, c.made(req.GetIdentities()[i], sb))
	}
	return out, nil
}

func (c *brokerConn) restore(ctx context.Context, req *providerv1.RestoreSnapshotRequest) (*providerv1.RestoreSnapshotResponse, error) {
	snapshot, err := c.snapshotID(ctx, req.GetSnapshotId())
	if err != nil {
		return nil, err
	}
	var resp brokerv1.RestoreSnapshotResponse
	err = c.call(ctx, "RestoreSnapshot", &brokerv1.RestoreSnapshotRequest{
		Snapshot: snapshot, Minimum: req.GetMinimum(), Lifetime: req.GetLifetime(), IdempotencyKey: req.GetOperation().GetIdempotencyKey(),
		Labels: labelled(req.GetIdentity().GetLabels(), carried(req.GetIdentity(), req.GetOperation())),
	}, &resp)
	if err != nil {
		return nil, err
	}
	return &providerv1.RestoreSnapshotResponse{Sandbox: c.made(req.GetIdentity(), resp.GetSandbox())}, nil
}
