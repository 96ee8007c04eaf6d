package resilience

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// launch says how a plugin is started.
type launch struct {
	// state is what an earlier plugin kept; empty: a new folder.
	state string
	// through is a command line that starts the plugin: its own follows.
	through []string
	// orphan does not tell the plugin who its host is.
	orphan bool
	// versions are the protocol majors that the host knows; empty: 1.
	versions string
	// stderr is where the plugin logs; nil: a file.
	stderr *os.File
	// extra is inherited as descriptor 3; nil: nothing.
	extra *os.File
}

// process is a plugin that a case started itself, as no host would. It ends with
// the case.
type process struct {
	t   *engine.T
	cmd *exec.Cmd
	// dir is its own and in its environment; state is what it is to keep.
	dir, state string
	stdout     *os.File
	// line brings the first line of standard output; closed without one.
	line chan string
	// rest is what came after, once drained is closed.
	rest    []byte
	drained chan struct{}
	// ended is closed when the process has been waited for.
	ended  chan struct{}
	client providerv1.ProviderServiceClient
}

// maxRest is as much of what does not belong on standard output as is looked at.
const maxRest = 64 << 10

// start starts a plugin, and does not speak with it yet.
func start(t *engine.T, how launch) *process {
	dir, err := os.MkdirTemp("", "sbp")
	broken(t, "make a folder", err)
	t.Cleanup(func(context.Context) { _ = os.RemoveAll(dir) }) // the system's folder for temporary files is cleaned anyway
	p := &process{
		t: t, dir: dir, state: how.state, line: make(chan string, 1), drained: make(chan struct{}), ended: make(chan struct{}),
	}
	if p.state == "" {
		p.state = filepath.Join(dir, "s")
		broken(t, "make the state folder", os.Mkdir(p.state, 0o700))
	}
	argv := slices.Concat(how.through, t.Instance().Argv)
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), argv[0], argv[1:]...) // ended by the cleanup, not by the budget
	p.cmd.Env = how.environment(dir)
	stdin, hold := pipe(t)
	t.Cleanup(func(context.Context) { _ = hold.Close() }) // nothing was written
	stdout, theirs := pipe(t)
	p.stdout = stdout
	if how.stderr == nil {
		how.stderr, err = os.Create(filepath.Join(dir, "log"))
		broken(t, "make a file for what the plugin logs", err)
		defer how.stderr.Close()
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdin, theirs, how.stderr
	if how.extra != nil {
		p.cmd.ExtraFiles = []*os.File{how.extra}
	}
	err = p.cmd.Start()
	_, _ = stdin.Close(), theirs.Close() // the plugin has its own
	broken(t, "start the plugin", err)
	go p.read()
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // the state says how it ended
	}()
	t.Cleanup(func(context.Context) {
		_ = p.cmd.Process.Kill() // fails when it has ended
		<-p.ended
		_ = p.stdout.Close() // a descendant may hold the other end
		<-p.drained
	})
	return p
}

// environment is what the handshake needs, and nothing else but the host's pid.
func (l launch) environment(dir string) []string {
	versions := l.versions
	if versions == "" {
		versions = strconv.Itoa(handshake.ProtocolMajor)
	}
	env := []string{handshake.CookieKey + "=" + handshake.CookieValue, "PLUGIN_PROTOCOL_VERSIONS=" + versions, socketDir + "=" + dir}
	if !l.orphan {
		env = append(env, handshake.EnvParentPID+"="+strconv.Itoa(os.Getpid()))
	}
	return env
}

// socketDir is go-plugin's variable for the folder of the socket. It also tells a
// plugin's descendants from everybody else's.
const socketDir = "PLUGIN_UNIX_SOCKET_DIR"

func pipe(t *engine.T) (*os.File, *os.File) {
	r, w, err := os.Pipe()
	broken(t, "make a pipe", err)
	return r, w
}

// broken ends the case if the suite cannot do its part.
func broken(t *engine.T, what string, err error) {
	if err != nil {
		t.Broken("%s: %v", what, err)
	}
}

// read takes standard output until its end.
func (p *process) read() {
	defer close(p.drained)
	in := bufio.NewReader(p.stdout)
	line, err := in.ReadString('\n')
	if err == nil {
		p.line <- line
	} else {
		p.rest = []byte(line)
	}
	close(p.line)
	if err == nil {
		p.rest, _ = io.ReadAll(io.LimitReader(in, maxRest)) // ends when the case says so
	}
}

// pid is of the process that was started.
func (p *process) pid() int { return p.cmd.Process.Pid }

// log is the end of what it logged, for messages.
func (p *process) log() string {
	const most = 2000
	text, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil || len(text) == 0 {
		return ""
	}
	return "\n" + string(text[max(0, len(text)-most):])
}

// greeting waits for the handshake line, and returns its fields.
func (p *process) greeting() []string {
	timer := time.NewTimer(startBudget)
	defer timer.Stop()
	select {
	case line, ok := <-p.line:
		if !ok {
			p.t.Fatalf("standard output ended with %q and without a handshake line%s", p.rest, p.log())
		}
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "|")
		if len(fields) < 5 || fields[0] != "1" || fields[2] != "unix" || fields[4] != "grpc" {
			p.t.Fatalf("the first line of standard output is %q: want 1|%d|unix|PATH|grpc", line, handshake.ProtocolMajor)
		}
		return fields
	case <-timer.C:
		p.t.Fatalf("no handshake line within %s%s", startBudget, p.log())
	case <-p.t.Context().Done():
		p.t.Fatalf("no handshake line until the case's budget ended%s", p.log())
	}
	return nil
}

// startBudget is the plugin host's own.
const startBudget = 10 * time.Second

// serve waits for the handshake, connects and configures.
func (p *process) serve() *process {
	p.t.Step("start a plugin with state in %s", p.state)
	conn, err := grpc.NewClient("unix:"+p.greeting()[3], grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(handshake.MaxMessageBytes), grpc.MaxCallSendMsgSize(handshake.MaxMessageBytes)))
	broken(p.t, "connect", err)
	p.t.Cleanup(func(context.Context) { _ = conn.Close() }) // its only error is that it was closed
	p.client = p.t.ClientOf(subject.NewInstance(conn, nil, nil, p.state, nil))
	req := proto.CloneOf(p.t.Instance().Configuration)
	req.StateDir, req.Owner = p.state, p.t.Owner()
	if _, err := p.client.Configure(p.t.Context(), req); err != nil {
		p.t.Fatalf("Configure: %s: want success%s", subject.Describe(err), p.log())
	}
	return p
}

// create makes a sandbox, which is removed with the process at the latest.
func (p *process) create() *stage.Box {
	box := stage.CreateWith(p.t, p.client)
	p.t.Cleanup(func(ctx context.Context) {
		_, _ = p.client.DeleteSandbox(ctx, &providerv1.DeleteSandboxRequest{Sandbox: box.Ref}) // the case itself deletes what it still can
	})
	return box
}

// works makes a call that any plugin answers.
func (p *process) works(when string) {
	_, err := p.client.ListSandboxes(p.t.Context(), &providerv1.ListSandboxesRequest{Owner: p.t.Owner()})
	if err != nil {
		p.t.Fatalf("ListSandboxes %s: %s: want success%s", when, subject.Describe(err), p.log())
	}
}

// signal sends a signal to the plugin.
func (p *process) signal(s syscall.Signal) {
	p.t.Step("send %s", s)
	broken(p.t, fmt.Sprintf("send %s", s), p.cmd.Process.Signal(s))
}

// stop ends the plugin with SIGTERM, which must succeed.
func (p *process) stop() {
	p.signal(syscall.SIGTERM)
	p.awaitExit("after SIGTERM")
}

// awaitExit waits for the plugin to exit 0.
func (p *process) awaitExit(when string) {
	timer := time.NewTimer(handshake.OrphanExit)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		p.t.Fatalf("%s the plugin did not end within %s%s", when, handshake.OrphanExit, p.log())
	case <-p.t.Context().Done():
		p.t.Fatalf("%s the plugin did not end until the case's budget did%s", when, p.log())
	}
	if s := p.cmd.ProcessState; s.ExitCode() != 0 {
		p.t.Fatalf("%s the plugin ended with %s: want exit code 0%s", when, s, p.log())
	}
}

// alive reports whether a process runs that is not the suite's child. One that
// ended and that nobody waits for does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !os.IsNotExist(err) || !hasProc()
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}

// hasProc reports whether processes can be looked at as on Linux.
func hasProc() bool {
	_, err := os.Stat("/proc/self/stat")
	return err == nil
}
