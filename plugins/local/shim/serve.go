package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	// bootBudget ends a shim that cannot come up, in case nobody is left to kill
	// it.
	bootBudget = 60 * time.Second
	// closeBudget bounds the end of the guest; after it the shim's own end takes
	// the guest along.
	closeBudget = 10 * time.Second
)

// Main is the body of a shim process, started by Spawn with the sandbox's folder
// as its argument. It returns the exit code.
func Main(dir string) int {
	runsc.CollectLater()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	readyPipe := os.NewFile(readyFD, "ready")
	// The lock must live as long as this process; the variable keeps the
	// collector from closing it.
	lock := os.NewFile(lockFD, "lock")
	defer func() { _ = lock.Close() }()
	for _, fd := range []int{lockFD, readyFD} {
		syscall.CloseOnExec(fd)
	}
	stdin := os.Stdin // Enter lets the variable name another file
	if err := serve(dir, stdin, readyPipe, log); err != nil {
		log.Error("shim ends", "error", err)
		return 1
	}
	return 0
}

func serve(dir string, stdin, readyPipe *os.File, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), bootBudget)
	defer cancel()
	in := json.NewDecoder(stdin)
	s, err := start(ctx, dir, in, log)
	if err != nil {
		tell(readyPipe, ready{Fault: faultOf(err)})
		return err
	}
	tell(readyPipe, ready{OK: true})
	cancel()
	if s.member {
		if err := s.awaitAdoption(in, readyPipe); err != nil {
			return err
		}
	}
	_, _ = stdin.Close(), readyPipe.Close()
	return s.run()
}

// tell writes a line that the plugin waits for. A plugin that is gone does not
// hear it, which changes nothing.
func tell(pipe *os.File, msg ready) { _ = json.NewEncoder(pipe).Encode(msg) }

// server is a shim that has come up.
type server struct {
	guest    *guest
	grpc     *grpc.Server
	sdk      *sdk.Server
	execs    *exec.Table
	listener net.Listener
	// member is set while the shim is nobody's sandbox. folder is its folder then,
	// wherever that is: the plugin may rename it as soon as the shim is ready.
	member bool
	folder *os.File
}

func start(ctx context.Context, dir string, in *json.Decoder, log *slog.Logger) (_ *server, err error) {
	boot, err := readBoot(in)
	if err != nil {
		return nil, err
	}
	rec, err := boot.record(dir)
	if err != nil {
		return nil, err
	}
	l := newLife(dir, rec, log)
	s := &server{
		guest:  &guest{id: rec.Sandbox.GetIdentity().GetSandboxId(), spec: rec.Spec, root: boot.Root, life: l},
		execs:  exec.NewTable(exec.Options{Retain: boot.RetainBytes, Logger: log}),
		member: boot.Member != nil,
	}
	s.guest.execs = s.execs
	// The door does not need the guest, nor the guest the door; nobody is let in
	// before both are there.
	door := make(chan error, 1)
	go func() { door <- s.openDoor(dir, log) }()
	s.guest.sb, err = bringUp(ctx, l, boot, s.execs)
	if err = errors.Join(err, <-door); err == nil && boot.Checkpoint != "" {
		s.guest.meter, err = newMeter(ctx, s.guest.sb, rec.Usage)
	}
	switch {
	case err != nil:
	case s.member:
		s.folder, err = os.Open(dir)
	default:
		err = l.running()
	}
	if err != nil {
		if s.guest.sb != nil {
			_ = s.guest.sb.Close(context.WithoutCancel(ctx))
		}
		return nil, err
	}
	if boot.DropCheckpoint {
		go dropCheckpoint(s.guest.sb, boot.Checkpoint, log)
	}
	return s, nil
}

// openDoor makes everything that serves calls, and says where it is found.
func (s *server) openDoor(dir string, log *slog.Logger) (err error) {
	if s.sdk, err = sdk.NewServer(s.guest, sdk.Options{Table: s.execs, Configured: true, Logger: log}); err != nil {
		return err
	}
	s.grpc = grpc.NewServer(sdk.ServerOptions()...)
	s.sdk.Register(s.grpc)
	if s.listener, err = listen(dir); err != nil {
		return err
	}
	return writeBootstrap(dir)
}

// dropCheckpoint removes a checkpoint once nothing is read from it any more. Its
// end is the guest's, or the shim's.
func dropCheckpoint(sb *runsc.Sandbox, dir string, log *slog.Logger) {
	if err := sb.Loaded(); err != nil {
		log.Error("load checkpoint", "error", err)
		return
	}
	if err := os.RemoveAll(dir); err != nil {
		log.Error("remove checkpoint", "error", err)
	}
}

// run serves until the sandbox ends, and ends it.
func (s *server) run() error {
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(s.listener) }()
	why := s.guest.life.watch(s.guest.sb)
	ctx, cancel := context.WithTimeout(context.Background(), closeBudget)
	defer cancel()
	s.guest.life.close(ctx, s.guest.sb, why)
	// Calls in flight, the one that asked for the end among them, get their
	// answers; streams of a guest that is gone end by themselves.
	stopped := make(chan struct{})
	go func() { defer close(stopped); s.grpc.GracefulStop() }()
	select {
	case <-stopped:
	case <-time.After(answerGrace):
		s.grpc.Stop()
		<-stopped
	}
	s.sdk.Close()
	s.execs.Close()
	err := <-served
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

// answerGrace is how long streams may take to notice the end.
const answerGrace = 2 * time.Second

// listen makes the socket, by the folder's descriptor, because the path of a
// socket may have at most 107 bytes.
func listen(dir string) (net.Listener, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open sandbox folder: %w", err)
	}
	defer func() { _ = d.Close() }()
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "unix", descriptorPath(d)+"/"+socketName)
	if err != nil {
		return nil, fmt.Errorf("listen for the plugin: %w", err)
	}
	unix, ok := l.(*net.UnixListener)
	if !ok {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG, "the listener is no unix socket")
	}
	unix.SetUnlinkOnClose(false)
	return &ownListener{UnixListener: unix}, nil
}

// ownListener accepts only the user that runs the shim.
type ownListener struct{ *net.UnixListener }

// Accept implements net.Listener.
func (l *ownListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if peerIsSelf(conn) == nil {
			return conn, nil
		}
		_ = conn.Close()
	}
}
