package fake_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

type attachment = grpc.BidiStreamingClient[providerv1.AttachExecRequest, providerv1.AttachExecResponse]

func sh(text string) *providerv1.ExecSpec {
	return &providerv1.ExecSpec{Argv: []string{"sh", "-c", text}}
}

// until reads an attachment until its output contains a text.
func (r *rig) until(stream attachment, want string) string {
	r.t.Helper()
	var got bytes.Buffer
	for !strings.Contains(got.String(), want) {
		resp, err := stream.Recv()
		if err != nil {
			r.t.Fatalf("waiting for %q after %q: %v", want, got.String(), err)
		}
		got.Write(resp.GetOutput().GetData().GetData())
	}
	return got.String()
}

func (r *rig) signal(id, exec string, s providerv1.ExecSignal) {
	r.t.Helper()
	if _, err := r.SignalExec(r.ctx, &providerv1.SignalExecRequest{Sandbox: ref(id), ExecId: exec, Signal: s}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) pids(id string) int64 {
	r.t.Helper()
	u, err := r.GetUsage(r.ctx, &providerv1.GetUsageRequest{Sandbox: ref(id)})
	if err != nil {
		r.t.Fatal(err)
	}
	return u.GetUsage().GetPids()
}

// awaitPids waits until so many processes are left.
func (r *rig) awaitPids(id string, want int64) {
	r.t.Helper()
	for r.pids(id) != want {
		if r.ctx.Err() != nil {
			r.t.Fatalf("%d processes are left, want %d", r.pids(id), want)
		}
	}
}

func TestSignalsReachTheWholeGroup(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", nil)
	for i, tc := range []struct {
		name, text string
		signal     providerv1.ExecSignal
		out        string
		want       string
		code       int32
		cause      providerv1.ExitCause
	}{
		{"kill", "(sleep 60 | cat) & echo ready; sleep 60; echo never", providerv1.ExecSignal_EXEC_SIGNAL_KILL, "ready\n", "SIGKILL", 0, providerv1.ExitCause_EXIT_CAUSE_SIGNALED},
		{"terminate", "sleep 60 & echo ready; wait", providerv1.ExecSignal_EXEC_SIGNAL_TERM, "ready\n", "SIGTERM", 0, providerv1.ExitCause_EXIT_CAUSE_SIGNALED},
		// One long sleep would outlive a signal that comes just before it starts,
		// as on Linux.
		{"trapped", "trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.05; done", providerv1.ExecSignal_EXEC_SIGNAL_TERM, "ready\nterm\n", "", 3, providerv1.ExitCause_EXIT_CAUSE_TASK},
		{"a busy loop", "echo ready; while :; do :; done", providerv1.ExecSignal_EXEC_SIGNAL_INT, "ready\n", "SIGINT", 0, providerv1.ExitCause_EXIT_CAUSE_SIGNALED},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sub := *r
			sub.t = t
			exec := "exe_" + string(rune('a'+i))
			stream := sub.start("sbx_1", exec, sh(tc.text))
			seen := sub.until(stream, "ready\n")
			sub.signal("sbx_1", exec, tc.signal)
			out, _, exit := sub.finish(stream)
			if seen+out != tc.out || exit.GetSignal() != tc.want || exit.GetCode() != tc.code || exit.GetCause() != tc.cause {
				t.Errorf("out %q exit %v", seen+out, exit)
			}
			sub.awaitPids("sbx_1", 0)
		})
	}
}

func TestATimeoutKillsTheGroup(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", nil)
	spec := sh("sleep 60 & sleep 60")
	spec.Timeout = durationpb.New(50 * time.Millisecond)
	_, _, exit := r.finish(r.start("sbx_1", "exe_1", spec))
	if exit.GetSignal() != "SIGKILL" || exit.GetCause() != providerv1.ExitCause_EXIT_CAUSE_TIMEOUT {
		t.Errorf("exit %v", exit)
	}
	r.awaitPids("sbx_1", 0)
}

func TestACommandsOwnEnd(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", &providerv1.SandboxSpec{Resources: &providerv1.Resources{MemoryBytes: 128 << 20, DiskBytes: 1 << 20, Pids: 8}})
	for i, tc := range []struct {
		name, text, out, errs, signal string
		code                          int32
		cause                         providerv1.ExitCause
		oom                           bool
	}{
		{name: "killed from inside", text: "kill -9 $$; echo never", signal: "SIGKILL", cause: providerv1.ExitCause_EXIT_CAUSE_TASK},
		{name: "out of memory", text: "dd if=/dev/zero of=/dev/null bs=200M count=1", signal: "SIGKILL", cause: providerv1.ExitCause_EXIT_CAUSE_SANDBOX, oom: true},
		{name: "out of memory in a child", text: "dd if=/dev/zero of=/dev/null bs=200M count=1; echo $?", out: "137\n", errs: "Killed\n", cause: providerv1.ExitCause_EXIT_CAUSE_TASK},
		{name: "memory that a shell holds", text: "x=$(yes); echo never", signal: "SIGKILL", cause: providerv1.ExitCause_EXIT_CAUSE_SANDBOX, oom: true},
		{name: "memory that a variable holds", text: "a=x; while :; do a=$a$a; done", signal: "SIGKILL", cause: providerv1.ExitCause_EXIT_CAUSE_SANDBOX, oom: true},
		{name: "memory that is free again", text: "for i in 1 2 3; do dd if=/dev/zero of=/dev/null bs=100M count=1 status=none || exit 1; done; echo ok", out: "ok\n", cause: providerv1.ExitCause_EXIT_CAUSE_TASK},
		{
			name: "a full disk", text: "cd /tmp; dd if=/dev/zero of=big bs=64k status=none; wc -c < big; echo x > more; cat more; rm big; echo y > more; cat more",
			out: "1048576\ny\n", errs: "dd: No space left on device\necho: write error: No space left on device\n", cause: providerv1.ExitCause_EXIT_CAUSE_TASK,
		},
		{
			name: "too many processes", text: "for i in 1 2 3 4 5 6 7 8 9; do sleep 60 & done; kill -0 0 && echo alive; kill 0",
			out: "alive\n", errs: strings.Repeat("sh: fork: Resource temporarily unavailable\n", 2), signal: "SIGTERM", cause: providerv1.ExitCause_EXIT_CAUSE_TASK,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sub := *r
			sub.t = t
			out, errs, exit := sub.finish(sub.start("sbx_1", "exe_"+string(rune('a'+i)), sh(tc.text)))
			if out != tc.out || errs != tc.errs || exit.GetSignal() != tc.signal || exit.GetCode() != tc.code || exit.GetCause() != tc.cause || exit.GetOutOfMemory() != tc.oom {
				t.Errorf("out %q err %q exit %v", out, errs, exit)
			}
			sub.awaitPids("sbx_1", 0)
		})
	}
}

func TestVariablesGiveMemoryBack(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", &providerv1.SandboxSpec{Resources: &providerv1.Resources{MemoryBytes: 2 << 20}})
	out, errs, exit := r.run("sbx_1", "exe_1", "sh", "-c", `a=x; while [ ${#a} -lt 16384 ]; do a=$a$a; done; echo $a > /tmp/a
f() { local b=$a$a; }
i=0; while [ $i -lt 60 ]; do i=$((i+1)); f; b=$a$a; unset b; b=$(cat /tmp/a); b=$(< /tmp/a); c=$b true; b=; done; echo $i`)
	if out != "60\n" || errs != "" || exit.GetCode() != 0 {
		t.Errorf("out %q err %q exit %v", out, errs, exit)
	}
}

func TestABackgroundChildHoldsThePipes(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", nil)
	out, _, exit := r.finish(r.start("sbx_1", "exe_1", sh("(sleep 0.1; echo late) & echo early")))
	if out != "early\nlate\n" || exit.GetCode() != 0 {
		t.Errorf("out %q exit %v", out, exit)
	}
	start := time.Now()
	out, _, exit = r.finish(r.start("sbx_1", "exe_2", sh("sleep 1000 & echo out")))
	if took := time.Since(start); out != "out\n" || exit.GetCode() != 0 || took < 4*time.Second || took > 5*time.Minute {
		t.Errorf("out %q exit %v after %v, want the drain time of 5s", out, exit, took)
	}
	if n := r.pids("sbx_1"); n != 1 {
		t.Errorf("%d processes, want the one that was left behind", n)
	}
	out, _, _ = r.finish(r.start("sbx_1", "exe_3", sh("sleep 60 >/dev/null 2>&1 & echo out")))
	if out != "out\n" {
		t.Errorf("out %q", out)
	}
}

func TestPauseStopsEveryProcess(t *testing.T) {
	const pause = 300 * time.Millisecond
	r := serve(t, nil)
	r.create("sbx_1", nil)
	// Each of the three sees the time jump by the pause, and only by that.
	watch := `watch() { t=$(date +%s%N); echo on; while :; do n=$(date +%s%N); [ $((n - t)) -gt 250000000 ] && { echo jump $1; exit; }; t=$n; done; }; `
	stream := r.start("sbx_1", "exe_1", sh(watch+`(watch a) & (watch b) | cat & (watch c); wait; echo done`))
	seen := ""
	for strings.Count(seen, "on\n") < 3 { // one that has not looked yet would see no jump
		seen += r.until(stream, "on\n")
	}
	if _, err := r.PauseSandbox(r.ctx, &providerv1.PauseSandboxRequest{Sandbox: ref("sbx_1")}); err != nil {
		t.Fatal(err)
	}
	<-time.After(pause)
	if _, err := r.ResumeSandbox(r.ctx, &providerv1.ResumeSandboxRequest{Sandbox: ref("sbx_1")}); err != nil {
		t.Fatal(err)
	}
	out, errs, exit := r.finish(stream)
	for _, want := range []string{"jump a\n", "jump b\n", "jump c\n", "done\n"} {
		if strings.Count(seen+out, want) != 1 {
			t.Errorf("out %q err %q exit %v, want %q once", seen+out, errs, exit, want)
		}
	}
}

// typing is an attachment to a command with a terminal.
func (r *rig) typing(exec string, argv ...string) (stream attachment, keys func(string)) {
	r.t.Helper()
	stream = r.start("sbx_1", exec, &providerv1.ExecSpec{Argv: argv, Stdin: true, Terminal: &providerv1.Terminal{Rows: 24, Cols: 80}})
	at := int64(0)
	return stream, func(text string) {
		r.t.Helper()
		r.send(stream, &providerv1.ExecInput{Frame: &providerv1.ExecInput_Stdin{Stdin: &providerv1.ExecStdin{Offset: at, Data: []byte(text)}}})
		at += int64(len(text))
	}
}

func TestTerminal(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", nil)
	stream, keys := r.typing("exe_1", "sh")
	r.until(stream, "# ")
	keys("stty size\r")
	if out := r.until(stream, "80\r\n# "); out != "stty size\r\n24 80\r\n# " {
		t.Errorf("stty size showed %q", out)
	}
	keys("slx\x7f\x7feep 60\r")
	r.until(stream, "eep 60\r\n")
	keys("\x03")
	r.until(stream, "^C\r\n# ")
	keys("half\x03")
	r.until(stream, "^C\r\n# ")
	keys("stty -echo\r")
	r.until(stream, "-echo\r\n# ")
	keys("read x; echo got $x\r")
	keys("hidden\r")
	if out := r.until(stream, "\r\n# "); out != "got hidden\r\n# " {
		t.Errorf("without echo it showed %q", out)
	}
	keys("stty sane; cat\r")
	keys("\x04")
	r.until(stream, "# ")
	keys("[ -t 0 ] && tty; sleep 60 & exit 5\r")
	out, errs, exit := r.finish(stream)
	if !strings.HasSuffix(out, "/dev/pts/0\r\n") || errs != "" || exit.GetCode() != 5 {
		t.Errorf("out %q err %q exit %v", out, errs, exit)
	}
	r.awaitPids("sbx_1", 0) // the terminal hung up on the child in the background
}

func TestTerminalOfAScript(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", nil)
	stream, keys := r.typing("exe_1", "sh", "-c", "trap 'stty size' WINCH; trap 'echo int; exit 6' INT; echo ready; while :; do sleep 0.01; done")
	r.until(stream, "ready\r\n")
	r.send(stream, &providerv1.ExecInput{Frame: &providerv1.ExecInput_Resize{Resize: &providerv1.ExecResize{Seq: 1, Size: &providerv1.Terminal{Rows: 40, Cols: 100}}}})
	r.until(stream, "40 100\r\n")
	keys("\x03")
	out, _, exit := r.finish(stream)
	if out != "^Cint\r\n" || exit.GetCode() != 6 {
		t.Errorf("out %q exit %v", out, exit)
	}
	stream, keys = r.typing("exe_2", "sh", "-c", "stty raw -echo; echo ready; head -c 3 | od -An -tx1; stty -a")
	r.until(stream, "ready\n")
	keys("\x03\x04\r")
	if out := r.until(stream, "-opost"); !strings.Contains(out, " 03 04 0d") {
		t.Errorf("raw keys arrived as %q", out)
	}
	if _, _, exit := r.finish(stream); exit.GetCode() != 0 {
		t.Errorf("exit %v", exit)
	}
}
