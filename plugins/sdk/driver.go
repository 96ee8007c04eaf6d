package sdk

import (
	"context"
	"io"
	"net"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Driver is what every provider implements. Requests and answers are the
// contract's own messages; the doc comments of provider.proto are the contract
// of each method. The SDK has already refused requests that need a capability
// which Describe does not declare, that lack a deadline, or that fail
// validation, and it turns a returned *fault.Error into its status. Any other
// error, and a panic, becomes PLUGIN_BUG.
//
// All methods are called concurrently and must honour ctx, whose deadline lies
// a little before the caller's so that there is time to answer.
//
// A provider that can do more implements the optional interfaces of this package
// too, and declares the capabilities in Describe. Serve refuses to start when the
// two disagree.
type Driver interface {
	// Describe is pure and fast; see the contract. The SDK sorts capabilities
	// and fills protocol_minor and config_generation.
	Describe(context.Context) (*providerv1.DescribeResponse, error)
	// Configure takes settings that the SDK has checked against
	// Describe().Settings: no unknown, none missing, types right.
	Configure(context.Context, *providerv1.ConfigureRequest) error
	Probe(context.Context) (*providerv1.ProbeResponse, error)
	CreateSandbox(context.Context, *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error)
	GetSandbox(context.Context, *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error)
	ListSandboxes(context.Context, *providerv1.ListSandboxesRequest) (*providerv1.ListSandboxesResponse, error)
	DeleteSandbox(context.Context, *providerv1.DeleteSandboxRequest) (*providerv1.DeleteSandboxResponse, error)
	Recover(context.Context, *providerv1.RecoverRequest) (*providerv1.RecoverResponse, error)
	// StartProcess starts a command. The SDK does the rest of exec: idempotency
	// by exec id, retained output, offsets, acknowledgements, attachments,
	// timeout. ctx covers the start only; the process outlives it.
	StartProcess(ctx context.Context, sandbox *providerv1.SandboxRef, execID string, spec *providerv1.ExecSpec) (Process, error)
}

// Process is one running command, made by Driver.StartProcess and owned by the
// SDK.
type Process = exec.Process

// ExecServer replaces the SDK's exec machinery, for drivers whose sandboxes have
// a server of their own that speaks the contract (such as the local provider's
// shim). A driver that implements it is never asked for StartProcess.
type ExecServer interface {
	StartExec(context.Context, *providerv1.StartExecRequest) (*providerv1.StartExecResponse, error)
	AttachExec(grpc.BidiStreamingServer[providerv1.AttachExecRequest, providerv1.AttachExecResponse]) error
	GetExec(context.Context, *providerv1.GetExecRequest) (*providerv1.GetExecResponse, error)
	SignalExec(context.Context, *providerv1.SignalExecRequest) (*providerv1.SignalExecResponse, error)
	ListExecs(context.Context, *providerv1.ListExecsRequest) (*providerv1.ListExecsResponse, error)
}

// Pauser serves capability "pause".
type Pauser interface {
	PauseSandbox(context.Context, *providerv1.PauseSandboxRequest) (*providerv1.Sandbox, error)
	ResumeSandbox(context.Context, *providerv1.ResumeSandboxRequest) (*providerv1.Sandbox, error)
}

// Snapshotter serves capability "snapshot".
type Snapshotter interface {
	CreateSnapshot(context.Context, *providerv1.CreateSnapshotRequest) (*providerv1.Snapshot, error)
	ListSnapshots(context.Context, *providerv1.ListSnapshotsRequest) (*providerv1.ListSnapshotsResponse, error)
	DeleteSnapshot(context.Context, *providerv1.DeleteSnapshotRequest) (*providerv1.DeleteSnapshotResponse, error)
	RestoreSnapshot(context.Context, *providerv1.RestoreSnapshotRequest) (*providerv1.Sandbox, error)
}

// Forker serves capability "fork".
type Forker interface {
	ForkSandbox(context.Context, *providerv1.ForkSandboxRequest) (*providerv1.ForkSandboxResponse, error)
}

// FileReader serves capability "fs.read".
type FileReader interface {
	// ReadFile calls send with the FileInfo first, then with data of any size;
	// the SDK splits it into frames. It returns send's error.
	ReadFile(ctx context.Context, req *providerv1.ReadFileRequest, send func(*providerv1.ReadFileResponse) error) error
	StatFile(context.Context, *providerv1.StatFileRequest) (*providerv1.FileInfo, error)
	ListFiles(context.Context, *providerv1.ListFilesRequest) (*providerv1.ListFilesResponse, error)
}

// FileWriter serves capability "fs.write".
type FileWriter interface {
	// WriteFile reads content to io.EOF. Any other error from content, such as
	// io.ErrUnexpectedEOF when the client never committed, means that a
	// replacement must leave the old file as it was.
	WriteFile(ctx context.Context, open *providerv1.WriteFileOpen, content io.Reader) (*providerv1.FileInfo, error)
	MakeDirectory(context.Context, *providerv1.MakeDirectoryRequest) error
	RemoveFile(context.Context, *providerv1.RemoveFileRequest) (*providerv1.RemoveFileResponse, error)
	MoveFile(context.Context, *providerv1.MoveFileRequest) error
}

// Differ serves capability "fs.diff".
type Differ interface {
	// DiffFiles calls send with changes in byte order of path, in batches.
	DiffFiles(ctx context.Context, req *providerv1.DiffFilesRequest, send func([]*providerv1.FileChange) error) error
}

// ArchiveDownloader serves capability "archive.download".
type ArchiveDownloader interface {
	DownloadArchive(ctx context.Context, req *providerv1.DownloadArchiveRequest, tar io.Writer) error
}

// ArchiveUploader serves capability "archive.upload".
type ArchiveUploader interface {
	UploadArchive(ctx context.Context, open *providerv1.UploadArchiveOpen, tar io.Reader) (*providerv1.UploadArchiveResponse, error)
}

// PortLister serves capability "port.list".
type PortLister interface {
	ListPorts(context.Context, *providerv1.ListPortsRequest) (*providerv1.ListPortsResponse, error)
}

// PortDialer serves capability "port.tunnel".
type PortDialer interface {
	// DialPort connects to a TCP port inside. The connection should implement
	// CloseWrite, so that half-closing works. PORT_REFUSED if nothing listens.
	DialPort(ctx context.Context, target *providerv1.PortTarget) (net.Conn, error)
}

// PortURLGetter serves capability "port.url".
type PortURLGetter interface {
	GetPortURL(context.Context, *providerv1.GetPortURLRequest) (*providerv1.GetPortURLResponse, error)
}

// EgressUpdater serves capability "egress.update".
type EgressUpdater interface {
	UpdateEgress(context.Context, *providerv1.UpdateEgressRequest) (*providerv1.UpdateEgressResponse, error)
}

// FlowSource serves capability "egress.capture".
type FlowSource interface {
	// WatchFlows calls send for each captured flow until ctx ends.
	WatchFlows(ctx context.Context, owner string, send func(*providerv1.Flow) error) error
	// AcceptFlow returns the sandbox's side of an announced flow.
	AcceptFlow(ctx context.Context, flowID string) (net.Conn, error)
	// RefuseFlow resets an announced flow.
	RefuseFlow(ctx context.Context, flowID string) error
}

// LifetimeExtender serves capability "lifetime.extend".
type LifetimeExtender interface {
	ExtendLifetime(context.Context, *providerv1.ExtendLifetimeRequest) (*providerv1.Sandbox, error)
}

// UsageReader serves capability "usage".
type UsageReader interface {
	GetUsage(context.Context, *providerv1.GetUsageRequest) (*providerv1.Usage, error)
}

// Watcher serves capability "watch".
type Watcher interface {
	// WatchSandboxes calls send as the contract says until ctx ends.
	WatchSandboxes(ctx context.Context, owner string, send func(*providerv1.WatchSandboxesResponse) error) error
}

// VolumeKeeper serves capability "volume".
type VolumeKeeper interface {
	CreateVolume(context.Context, *providerv1.CreateVolumeRequest) (*providerv1.Volume, error)
	ListVolumes(context.Context, *providerv1.ListVolumesRequest) (*providerv1.ListVolumesResponse, error)
	DeleteVolume(context.Context, *providerv1.DeleteVolumeRequest) (*providerv1.DeleteVolumeResponse, error)
}

// Drainer is told when the plugin is asked to drain, after the SDK stopped
// admitting new work and before it waits for calls in flight.
type Drainer interface {
	Drain(context.Context) error
}
