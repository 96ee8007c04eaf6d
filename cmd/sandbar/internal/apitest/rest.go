package apitest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// ListProviders answers one provider, called fake.
func (b *Broker) ListProviders(context.Context, *connect.Request[brokerv1.ListProvidersRequest]) (*connect.Response[brokerv1.ListProvidersResponse], error) {
	return connect.NewResponse(&brokerv1.ListProvidersResponse{Providers: []*brokerv1.Provider{{
		Name: "fake", State: brokerv1.PluginState_PLUGIN_STATE_READY, Version: "1.2.3", Path: "/opt/sandbar-provider-fake",
		Sha256: "00ff", Pid: 42, Starts: 1, IsDefault: true,
		Capabilities: []*providerv1.Capability{
			{Id: "exec.signal", State: providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED, Stability: providerv1.Stability_STABILITY_STABLE},
			{Id: "pause", State: providerv1.CapabilityState_CAPABILITY_STATE_DISABLED, Reason: "switched off", Alternative: "snapshot"},
		},
	}}}), nil
}

// ProbeProvider answers one check.
func (b *Broker) ProbeProvider(context.Context, *connect.Request[brokerv1.ProbeProviderRequest]) (*connect.Response[brokerv1.ProbeProviderResponse], error) {
	check := &providerv1.ProbeCheck{Name: "user-namespaces", Status: providerv1.ProbeStatus_PROBE_STATUS_OK, Detail: "allowed"}
	if b.Broken {
		check = &providerv1.ProbeCheck{
			Name: "user-namespaces", Status: providerv1.ProbeStatus_PROBE_STATUS_FAILED,
			Detail: "this user may not make user namespaces", Remedy: "sysctl -w user.max_user_namespaces=15000",
		}
	}
	return connect.NewResponse(&brokerv1.ProbeProviderResponse{Probe: &providerv1.ProbeResponse{
		Ready: !b.Broken, Checks: []*providerv1.ProbeCheck{check},
	}}), nil
}

// ForkSandbox makes records like the first.
func (b *Broker) ForkSandbox(_ context.Context, req *connect.Request[brokerv1.ForkSandboxRequest]) (*connect.Response[brokerv1.ForkSandboxResponse], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, err := b.find(req.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	res := &brokerv1.ForkSandboxResponse{}
	for range req.Msg.GetCount() {
		res.Sandboxes = append(res.Sandboxes, b.add("", "", s.msg.GetSpec(), req.Msg.GetLabels()).msg)
	}
	return connect.NewResponse(res), nil
}

// CreateSnapshot makes a record.
func (b *Broker) CreateSnapshot(_ context.Context, req *connect.Request[brokerv1.CreateSnapshotRequest]) (*connect.Response[brokerv1.CreateSnapshotResponse], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, err := b.find(req.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	size := int64(4096)
	snap := &brokerv1.Snapshot{
		State:      brokerv1.SnapshotState_SNAPSHOT_STATE_READY,
		SnapshotId: "snp_" + strings.ToLower(rand.Text()), Name: req.Msg.GetName(), Provider: "fake", SandboxId: s.msg.GetSandboxId(),
		Kept: req.Msg.GetMinimum(), CreatedAt: timestamppb.Now(), SizeBytes: &size, Labels: req.Msg.GetLabels(),
	}
	b.snapshots = append(b.snapshots, snap)
	return connect.NewResponse(&brokerv1.CreateSnapshotResponse{Snapshot: snap}), nil
}

// ListSnapshots lists all.
func (b *Broker) ListSnapshots(context.Context, *connect.Request[brokerv1.ListSnapshotsRequest]) (*connect.Response[brokerv1.ListSnapshotsResponse], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return connect.NewResponse(&brokerv1.ListSnapshotsResponse{Snapshots: b.snapshots}), nil
}

// DeleteSnapshot forgets a record.
func (b *Broker) DeleteSnapshot(_ context.Context, req *connect.Request[brokerv1.DeleteSnapshotRequest]) (*connect.Response[brokerv1.DeleteSnapshotResponse], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, s := range b.snapshots {
		if s.GetSnapshotId() == req.Msg.GetSnapshot() || s.GetName() == req.Msg.GetSnapshot() {
			b.snapshots = append(b.snapshots[:i:i], b.snapshots[i+1:]...)
			return connect.NewResponse(&brokerv1.DeleteSnapshotResponse{}), nil
		}
	}
	return connect.NewResponse(&brokerv1.DeleteSnapshotResponse{AlreadyAbsent: true}), nil
}

// RestoreSnapshot makes a sandbox.
func (b *Broker) RestoreSnapshot(_ context.Context, req *connect.Request[brokerv1.RestoreSnapshotRequest]) (*connect.Response[brokerv1.RestoreSnapshotResponse], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.snapshots {
		if s.GetSnapshotId() == req.Msg.GetSnapshot() || s.GetName() == req.Msg.GetSnapshot() {
			return connect.NewResponse(&brokerv1.RestoreSnapshotResponse{Sandbox: b.add(req.Msg.GetName(), "", nil, req.Msg.GetLabels()).msg}), nil
		}
	}
	return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SNAPSHOT_NOT_FOUND, "snapshot %q does not exist", req.Msg.GetSnapshot())
}

// CreateVolume makes a record.
func (b *Broker) CreateVolume(_ context.Context, req *connect.Request[brokerv1.CreateVolumeRequest]) (*connect.Response[brokerv1.CreateVolumeResponse], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := &brokerv1.Volume{Provider: "fake", Volume: &providerv1.Volume{Name: req.Msg.GetName(), CreatedAt: timestamppb.Now(), Labels: req.Msg.GetLabels()}}
	b.volumes = append(b.volumes, v)
	return connect.NewResponse(&brokerv1.CreateVolumeResponse{Volume: v}), nil
}

// ListVolumes lists all, and a provider that does not answer.
func (b *Broker) ListVolumes(context.Context, *connect.Request[brokerv1.ListVolumesRequest]) (*connect.Response[brokerv1.ListVolumesResponse], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return connect.NewResponse(&brokerv1.ListVolumesResponse{Volumes: b.volumes, Unreachable: map[string]string{"far": "no route"}}), nil
}

// DeleteVolume forgets a record.
func (b *Broker) DeleteVolume(_ context.Context, req *connect.Request[brokerv1.DeleteVolumeRequest]) (*connect.Response[brokerv1.DeleteVolumeResponse], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, v := range b.volumes {
		if v.GetVolume().GetName() == req.Msg.GetName() {
			b.volumes = append(b.volumes[:i:i], b.volumes[i+1:]...)
			return connect.NewResponse(&brokerv1.DeleteVolumeResponse{}), nil
		}
	}
	return connect.NewResponse(&brokerv1.DeleteVolumeResponse{AlreadyAbsent: true}), nil
}

// StatFile knows one folder, /dir.
func (b *Broker) StatFile(_ context.Context, req *connect.Request[providerv1.StatFileRequest]) (*connect.Response[providerv1.StatFileResponse], error) {
	if req.Msg.GetPath() == "/dir" {
		return connect.NewResponse(&providerv1.StatFileResponse{Info: &providerv1.FileInfo{Path: "/dir", Type: providerv1.FileType_FILE_TYPE_DIRECTORY}}), nil
	}
	return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND, "%s does not exist", req.Msg.GetPath()).With("path", req.Msg.GetPath())
}

// DownloadArchive answers the archive of SetArchive, in small pieces.
func (b *Broker) DownloadArchive(_ context.Context, req *connect.Request[providerv1.DownloadArchiveRequest], s *connect.ServerStream[providerv1.DownloadArchiveResponse]) error {
	b.mu.Lock()
	_, err := b.find(req.Msg.GetSandbox().GetSandboxId())
	r := bytes.NewReader(b.archive)
	b.mu.Unlock()
	if err != nil {
		return err
	}
	buf := make([]byte, 1000)
	for {
		n, err := r.Read(buf)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err := s.Send(&providerv1.DownloadArchiveResponse{Data: buf[:n]}); err != nil {
			return err
		}
	}
}

// UploadArchive keeps what was sent.
func (b *Broker) UploadArchive(_ context.Context, s *connect.ClientStream[providerv1.UploadArchiveRequest]) (*connect.Response[providerv1.UploadArchiveResponse], error) {
	var up Upload
	for s.Receive() {
		if o := s.Msg().GetOpen(); o != nil {
			up.Path = o.GetPath()
		}
		up.Data = append(up.Data, s.Msg().GetData()...)
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.uploads = append(b.uploads, up)
	return connect.NewResponse(&providerv1.UploadArchiveResponse{Bytes: int64(len(up.Data))}), nil
}

// DiffFiles answers one change of each kind.
func (b *Broker) DiffFiles(_ context.Context, _ *connect.Request[providerv1.DiffFilesRequest], s *connect.ServerStream[providerv1.DiffFilesResponse]) error {
	for _, c := range []*providerv1.FileChange{
		{Path: "/a\nb", Kind: providerv1.FileChangeKind_FILE_CHANGE_KIND_ADDED},
		{Path: "/etc/hosts", Kind: providerv1.FileChangeKind_FILE_CHANGE_KIND_MODIFIED},
		{Path: "/gone", Kind: providerv1.FileChangeKind_FILE_CHANGE_KIND_DELETED},
	} {
		if err := s.Send(&providerv1.DiffFilesResponse{Changes: []*providerv1.FileChange{c}}); err != nil {
			return err
		}
	}
	return nil
}

// ListPorts answers one port.
func (b *Broker) ListPorts(context.Context, *connect.Request[providerv1.ListPortsRequest]) (*connect.Response[providerv1.ListPortsResponse], error) {
	return connect.NewResponse(&providerv1.ListPortsResponse{Ports: []*providerv1.Port{{Port: 8080, Address: "127.0.0.1", Process: "httpd"}}}), nil
}

// OpenTunnel connects to the port on this machine.
func (b *Broker) OpenTunnel(ctx context.Context, s *connect.BidiStream[providerv1.OpenTunnelRequest, providerv1.OpenTunnelResponse]) error {
	first, err := s.Receive()
	if err != nil {
		return err
	}
	port := strconv.Itoa(int(first.GetFrame().GetOpen().GetPort().GetPort()))
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_PORT_REFUSED, "nothing listens on port %s", port).With("port", port)
	}
	defer func() { _ = conn.Close() }()
	send := func(f *providerv1.TunnelFrame) error { return s.Send(&providerv1.OpenTunnelResponse{Frame: f}) }
	if err := send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Opened{Opened: &providerv1.TunnelOpened{}}}); err != nil {
		return err
	}
	go func() {
		for {
			msg, err := s.Receive()
			if err != nil {
				_ = conn.Close()
				return
			}
			switch f := msg.GetFrame().GetFrame().(type) {
			case *providerv1.TunnelFrame_Data:
				_, _ = conn.Write(f.Data)
			case *providerv1.TunnelFrame_HalfClose:
				if c, ok := conn.(*net.TCPConn); ok {
					_ = c.CloseWrite()
				}
			}
		}
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			if err := send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Data{Data: buf[:n]}}); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}
