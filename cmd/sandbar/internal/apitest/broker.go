package apitest

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	"github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1/brokerv1connect"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Broker is the in-memory broker.
type Broker struct {
	brokerv1connect.UnimplementedSandboxServiceHandler
	brokerv1connect.UnimplementedAdminServiceHandler

	// Version is what GetServer answers.
	Version string
	// CutAfter ends every attachment after so many output frames, without Done;
	// zero: never.
	CutAfter int
	// HoldCreate makes CreateSandbox wait, after the sandbox is known, until the
	// caller goes away.
	HoldCreate bool
	// LateCreate makes CreateSandbox know its sandbox only after somebody tried
	// to delete it.
	LateCreate bool
	// Broken makes every probe fail.
	Broken bool

	started time.Time
	stop    chan struct{}
	stopped sync.Once
	deleted chan struct{}
	tried   sync.Once
	calls   chan string

	mu        sync.Mutex
	sandboxes []*sandbox
	snapshots []*brokerv1.Snapshot
	volumes   []*brokerv1.Volume
	archive   []byte
	uploads   []Upload
	keys      []string
}

// Upload is an archive that was sent.
type Upload struct {
	Path string
	Data []byte
}

type sandbox struct {
	msg   *brokerv1.Sandbox
	key   string
	execs []*command
}

// New returns an empty broker.
func New() *Broker {
	return &Broker{Version: "v0.0.0-test", started: time.Now(), stop: make(chan struct{}), deleted: make(chan struct{}), calls: make(chan string, 1024)}
}

// Calls delivers the name of each call that a test waits for.
func (b *Broker) Calls() <-chan string { return b.calls }

func (b *Broker) called(name string) {
	select {
	case b.calls <- name:
	default:
	}
}

// Serve answers on a listener until the context ends or StopServer is called.
// Commands that still run are killed.
func (b *Broker) Serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	opts := connect.WithInterceptors(codec{b})
	mux.Handle(brokerv1connect.NewSandboxServiceHandler(b, opts))
	mux.Handle(brokerv1connect.NewAdminServiceHandler(b, opts))
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	protocols.SetHTTP1(true)
	srv := &http.Server{Handler: mux, Protocols: protocols, ReadHeaderTimeout: time.Minute}
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-b.stop:
		case <-done:
		}
		b.killAll()
		_ = srv.Close()
	})
	err := srv.Serve(l)
	close(done)
	wg.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (b *Broker) killAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.sandboxes {
		for _, c := range s.execs {
			c.kill()
		}
	}
}

// Sandboxes returns how many sandboxes there are.
func (b *Broker) Sandboxes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.sandboxes)
}

// SetArchive is what DownloadArchive answers.
func (b *Broker) SetArchive(data []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.archive = data
}

// Uploads returns what was uploaded.
func (b *Broker) Uploads() []Upload {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Upload(nil), b.uploads...)
}

// APIKeys returns the Authorization headers seen, in order.
func (b *Broker) APIKeys() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.keys...)
}

func (b *Broker) find(ref string) (*sandbox, error) {
	for _, s := range b.sandboxes {
		if s.msg.GetSandboxId() == ref || s.msg.GetName() == ref {
			return s, nil
		}
	}
	return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "sandbox %q does not exist", ref).With("sandbox_id", ref)
}

// CreateSandbox makes a record.
func (b *Broker) CreateSandbox(ctx context.Context, req *connect.Request[brokerv1.CreateSandboxRequest]) (*connect.Response[brokerv1.CreateSandboxResponse], error) {
	r := req.Msg
	if r.GetSpec().GetImage().GetOci() == "missing" {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_IMAGE_NOT_FOUND, "image %q does not exist", "missing").With("remedy", "check the spelling of the image")
	}
	if b.LateCreate {
		b.called("late")
		<-b.deleted
	}
	b.mu.Lock()
	for _, s := range b.sandboxes {
		if s.key != "" && s.key == r.GetIdempotencyKey() {
			b.mu.Unlock()
			return connect.NewResponse(&brokerv1.CreateSandboxResponse{Sandbox: s.msg}), nil
		}
		if r.GetName() != "" && s.msg.GetName() == r.GetName() {
			b.mu.Unlock()
			return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS, "a sandbox called %q exists", r.GetName()).With("name", r.GetName())
		}
	}
	s := b.add(r.GetName(), r.GetProvider(), r.GetSpec(), r.GetLabels())
	s.key = r.GetIdempotencyKey()
	s.msg.Idle = r.GetIdle()
	if r.GetLifetime() != nil {
		s.msg.ExpiresAt = timestamppb.New(time.Now().Add(r.GetLifetime().AsDuration()))
	}
	b.mu.Unlock()
	b.called("CreateSandbox")
	if b.HoldCreate {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return connect.NewResponse(&brokerv1.CreateSandboxResponse{Sandbox: s.msg}), nil
}

// add makes a record; the lock is held.
func (b *Broker) add(name, provider string, spec *providerv1.SandboxSpec, labels map[string]string) *sandbox {
	if provider == "" {
		provider = "fake"
	}
	s := &sandbox{msg: &brokerv1.Sandbox{
		SandboxId: "sbx_" + strings.ToLower(rand.Text()), Name: name, Provider: provider,
		State: providerv1.SandboxState_SANDBOX_STATE_RUNNING, Spec: spec, Labels: labels,
		CreatedAt: timestamppb.Now(), Observed: &providerv1.Sandbox{Resources: spec.GetResources()},
	}}
	b.sandboxes = append(b.sandboxes, s)
	return s
}

// GetSandbox answers from the record.
func (b *Broker) GetSandbox(_ context.Context, req *connect.Request[brokerv1.GetSandboxRequest]) (*connect.Response[brokerv1.GetSandboxResponse], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, err := b.find(req.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&brokerv1.GetSandboxResponse{Sandbox: s.msg}), nil
}

// ListSandboxes lists one sandbox a page, so that paging is used.
func (b *Broker) ListSandboxes(_ context.Context, req *connect.Request[brokerv1.ListSandboxesRequest]) (*connect.Response[brokerv1.ListSandboxesResponse], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var match []*brokerv1.Sandbox
	for i := len(b.sandboxes) - 1; i >= 0; i-- {
		if m := b.sandboxes[i].msg; matches(m, req.Msg) {
			match = append(match, m)
		}
	}
	page := len(req.Msg.GetPageToken())
	res := &brokerv1.ListSandboxesResponse{}
	if page < len(match) {
		res.Sandboxes = match[page : page+1]
	}
	if page+1 < len(match) {
		res.NextPageToken = strings.Repeat("x", page+1)
	}
	return connect.NewResponse(res), nil
}

func matches(m *brokerv1.Sandbox, req *brokerv1.ListSandboxesRequest) bool {
	for k, v := range req.GetLabels() {
		if m.GetLabels()[k] != v {
			return false
		}
	}
	for _, s := range req.GetStates() {
		if s == m.GetState() {
			return true
		}
	}
	return len(req.GetStates()) == 0
}

// DeleteSandbox kills the commands and forgets the record.
func (b *Broker) DeleteSandbox(_ context.Context, req *connect.Request[brokerv1.DeleteSandboxRequest]) (*connect.Response[brokerv1.DeleteSandboxResponse], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.called("DeleteSandbox")
	defer b.tried.Do(func() { close(b.deleted) })
	s, err := b.find(req.Msg.GetSandbox())
	if err != nil {
		return connect.NewResponse(&brokerv1.DeleteSandboxResponse{AlreadyAbsent: true}), nil
	}
	for _, c := range s.execs {
		c.kill()
	}
	for i, o := range b.sandboxes {
		if o == s {
			b.sandboxes = append(b.sandboxes[:i], b.sandboxes[i+1:]...)
			break
		}
	}
	return connect.NewResponse(&brokerv1.DeleteSandboxResponse{}), nil
}

// PauseSandbox changes the state.
func (b *Broker) PauseSandbox(_ context.Context, req *connect.Request[brokerv1.PauseSandboxRequest]) (*connect.Response[brokerv1.PauseSandboxResponse], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, err := b.find(req.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	if req.Msg.GetMinimum().GetProcesses() {
		return nil, fault.Unsupported("pause.processes")
	}
	s.msg.State = providerv1.SandboxState_SANDBOX_STATE_PAUSED
	s.msg.Observed.Kept = req.Msg.GetMinimum()
	return connect.NewResponse(&brokerv1.PauseSandboxResponse{Sandbox: s.msg}), nil
}

// ResumeSandbox changes it back.
func (b *Broker) ResumeSandbox(_ context.Context, req *connect.Request[brokerv1.ResumeSandboxRequest]) (*connect.Response[brokerv1.ResumeSandboxResponse], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, err := b.find(req.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	s.msg.State = providerv1.SandboxState_SANDBOX_STATE_RUNNING
	return connect.NewResponse(&brokerv1.ResumeSandboxResponse{Sandbox: s.msg}), nil
}

// ExtendSandbox moves the end of life.
func (b *Broker) ExtendSandbox(_ context.Context, req *connect.Request[brokerv1.ExtendSandboxRequest]) (*connect.Response[brokerv1.ExtendSandboxResponse], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, err := b.find(req.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	end := req.Msg.GetExpiresAt()
	if s.msg.ExpiresAt != nil && end.AsTime().Before(s.msg.ExpiresAt.AsTime()) {
		return nil, fault.Field("expires_at", end.AsTime().Format(time.RFC3339), "want a time after the present end of life")
	}
	s.msg.ExpiresAt = end
	return connect.NewResponse(&brokerv1.ExtendSandboxResponse{Sandbox: s.msg}), nil
}

// GetServer answers what Broker says.
func (b *Broker) GetServer(context.Context, *connect.Request[brokerv1.GetServerRequest]) (*connect.Response[brokerv1.GetServerResponse], error) {
	return connect.NewResponse(&brokerv1.GetServerResponse{
		Version: b.Version, Pid: int32(os.Getpid()), StartedAt: timestamppb.New(b.started), OnDemand: true,
		IdleExit: durationpb.New(15 * time.Minute), Owner: "test",
	}), nil
}

// Stop ends Serve.
func (b *Broker) Stop() { b.stopped.Do(func() { close(b.stop) }) }

// StopServer ends Serve.
func (b *Broker) StopServer(context.Context, *connect.Request[brokerv1.StopServerRequest]) (*connect.Response[brokerv1.StopServerResponse], error) {
	b.Stop()
	return connect.NewResponse(&brokerv1.StopServerResponse{}), nil
}
