package local_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestStreamsApartAndExitCode(t *testing.T) {
	p := start(t)
	sb := p.create(nil)
	got := p.sh(sb, "echo out; echo err >&2; exit 7")
	if got.stdout != "out\n" || got.stderr != "err\n" || got.exit.GetCode() != 7 || got.exit.GetCause() != providerv1.ExitCause_EXIT_CAUSE_TASK {
		t.Errorf("got %+v", got)
	}
	if got := p.sh(sb, "dmesg"); !strings.Contains(got.stdout, "gVisor") {
		t.Errorf("dmesg does not speak of gVisor: %+v", got)
	}
}

func TestWhatCannotRun(t *testing.T) {
	p := start(t)
	sb := p.create(nil)
	for _, tc := range []struct {
		name string
		argv []string
		code int32
	}{
		{"missing", []string{"no-such-program"}, 127},
		{"missing path", []string{"/no/such/program"}, 127},
		{"not executable", []string{"/etc/passwd"}, 126},
		{"a folder", []string{"/usr"}, 126},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := p.exec(sb, &providerv1.ExecSpec{Argv: tc.argv}, nil)
			if got.exit.GetCode() != tc.code || !strings.Contains(got.stderr, tc.argv[0]) {
				t.Errorf("got %+v, want code %d", got, tc.code)
			}
		})
	}
	for _, tc := range []struct {
		field string
		spec  *providerv1.ExecSpec
	}{
		{"spec.workdir", &providerv1.ExecSpec{Argv: []string{"true"}, Workdir: "/no/such"}},
		{"spec.user", &providerv1.ExecSpec{Argv: []string{"true"}, User: "nosuchuser"}},
	} {
		t.Run(tc.field, func(t *testing.T) {
			_, err := p.client.StartExec(p.ctx(), &providerv1.StartExecRequest{
				Sandbox: sb, ExecId: "exe_" + rand.Text(), RequestDigest: make([]byte, 32), Spec: tc.spec,
			})
			e := fault.From(err)
			if e == nil || e.Reason != providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID || e.Metadata[fault.MetaField] != tc.field {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestRandomBytesBothWays sends 64 MiB in while the same bytes come out.
func TestRandomBytesBothWays(t *testing.T) {
	p := start(t)
	sb := p.create(nil)
	const size = 64 << 20
	sent, received := sha256.New(), sha256.New()
	in := io.TeeReader(io.LimitReader(rand.Reader, size), sent)
	id := p.startExec(sb, &providerv1.ExecSpec{Argv: []string{"cat"}, Stdin: true})
	var count counter
	exit := p.attach(sb, id, &providerv1.ExecOpen{Stdin: true}, in, io.MultiWriter(received, &count), io.Discard)
	if exit.GetCode() != 0 || exit.GetResult() == nil || count != size {
		t.Errorf("exit %v, %d bytes", exit, count)
	}
	if !bytes.Equal(sent.Sum(nil), received.Sum(nil)) {
		t.Errorf("bytes differ: %s", hex.EncodeToString(received.Sum(nil)))
	}
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

func TestManyCommands(t *testing.T) {
	p := start(t)
	sb := p.create(nil)
	for i := range 200 {
		if got := p.exec(sb, &providerv1.ExecSpec{Argv: []string{"echo", strconv.Itoa(i)}}, nil); got.stdout != fmt.Sprintln(i) {
			t.Fatalf("command %d: %+v", i, got)
		}
	}
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			want := strings.Repeat(fmt.Sprintln(i), 100)
			got := p.sh(sb, fmt.Sprintf("for j in $(seq 100); do echo %d; done", i))
			if got.stdout != want {
				t.Errorf("concurrent command %d: %d bytes, exit %v", i, len(got.stdout), got.exit)
			}
		})
	}
	wg.Wait()
}

func TestEnvironmentIsExact(t *testing.T) {
	t.Setenv("SANDBAR_TEST_SENTINEL", "must-not-be-seen")
	p := start(t)
	sb := p.create(&providerv1.SandboxSpec{Env: map[string]string{"A": "sandbox", "B": "sandbox"}})
	got := p.exec(sb, &providerv1.ExecSpec{Argv: []string{"env"}, Env: map[string]string{"B": "ü\nx y"}}, nil)
	for _, want := range []string{"A=sandbox\n", "B=ü\nx y\n", "HOME=/root\n", "PATH="} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("%q is missing in %q", want, got.stdout)
		}
	}
	if got := p.sh(sb, "cat /proc/*/environ | tr '\\0' '\\n'"); strings.Contains(got.stdout, "SENTINEL") {
		t.Errorf("the machine's environment shows inside: %q", got.stdout)
	}
}

func TestTimeoutKillsTheGroup(t *testing.T) {
	p := start(t)
	sb := p.create(nil)
	got := p.exec(sb, &providerv1.ExecSpec{
		Argv: []string{"sh", "-c", "sleep 1000 & sleep 1000"}, Timeout: durationpb.New(300 * time.Millisecond),
	}, nil)
	if got.exit.GetCause() != providerv1.ExitCause_EXIT_CAUSE_TIMEOUT || got.exit.GetSignal() != "SIGKILL" {
		t.Errorf("exit %v", got.exit)
	}
	if got := p.sh(sb, "ps ax 2>/dev/null | grep -c '[s]leep 1000'"); strings.TrimSpace(got.stdout) != "0" {
		t.Errorf("sleepers are left: %+v", got)
	}
}

func TestTerminal(t *testing.T) {
	p := start(t)
	sb := p.create(nil)
	got := p.exec(sb, &providerv1.ExecSpec{
		Argv: []string{"sh", "-c", "stty size; tty; echo e >&2"}, Terminal: &providerv1.Terminal{Rows: 33, Cols: 77},
	}, nil)
	if !strings.HasPrefix(got.stdout, "33 77\r\n/dev/pts/") || !strings.HasSuffix(got.stdout, "e\r\n") || got.stderr != "" {
		t.Errorf("got %+v", got)
	}
}

func TestUsers(t *testing.T) {
	p := start(t)
	sb := p.create(nil)
	for user, want := range map[string]string{"": "0 0\n", "nobody": "65534 65534\n", "4242": "4242 0\n", "4242:77": "4242 77\n"} {
		if got := p.exec(sb, &providerv1.ExecSpec{Argv: []string{"sh", "-c", "echo $(id -u) $(id -g)"}, User: user}, nil); got.stdout != want {
			t.Errorf("user %q: %+v, want %q", user, got, want)
		}
	}
}
