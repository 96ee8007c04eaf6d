package resilience

import (
	"bufio"
	"context"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// slow keeps cases that wait out of the runs of other cases' mutants.
const slow = 45 * time.Second

// starts are the cases about how a plugin begins.
func starts() []engine.Case {
	return []engine.Case{
		{
			ID: "proc/handshake", Title: "A stock go-plugin client gets to speak with it, and a host that knows newer majors gets major 1.",
			Profile: engine.Resilience, Requirements: []string{"REQ-PROC-001"}, Kinds: processes, Phase: engine.Apart,
			Run: greets,
		},
		{
			ID: "proc/stdout-clean", Title: "From its start to its end nothing but the handshake line comes out of standard output.",
			Profile: engine.Resilience, Requirements: []string{"REQ-PROC-002"}, Kinds: processes, Phase: engine.Apart,
			Run: stdoutClean,
		},
		{
			ID: "proc/no-stdin", Title: "It serves with standard input closed.",
			Profile: engine.Resilience, Requirements: []string{"REQ-PROC-003"}, Kinds: processes, Phase: engine.Apart,
			Run: noStdin,
		},
		{
			ID: "proc/empty-env", Title: "It makes sandboxes with no environment but the handshake's variables.",
			Profile: engine.Resilience, Requirements: []string{"REQ-PROC-003"}, Kinds: processes, Phase: engine.Apart, Cost: 3,
			Run: emptyEnv,
		},
	}
}

func greets(t *engine.T) {
	stock := stage.Open(t, subject.OpenOptions{Unconfigured: true})
	if stock.Describe.GetName() == "" {
		t.Errorf("Describe through a stock go-plugin client has no name")
	}
	t.Step("start it for a host that knows majors 1 and 2")
	fields := start(t, launch{versions: "1,2"}).greeting()
	if want := strconv.Itoa(handshake.ProtocolMajor); fields[1] != want {
		t.Errorf("the handshake line has protocol %s: want %s, the one that both know", fields[1], want)
	}
}

func stdoutClean(t *engine.T) {
	p := start(t, launch{}).serve()
	p.works("after Configure")
	missing := &providerv1.SandboxRef{SandboxId: stage.NewID("sbx")}
	_, err := p.client.StatFile(t.Context(), &providerv1.StatFileRequest{Sandbox: missing, Path: "/"})
	if err == nil {
		t.Errorf("StatFile in a sandbox that does not exist succeeded: want it refused")
	}
	p.stop()
	timer := time.NewTimer(stage.Moment)
	defer timer.Stop()
	select {
	case <-p.drained:
	case <-timer.C: // somebody holds it still
		broken(t, "end reading", p.stdout.SetReadDeadline(time.Now()))
		<-p.drained
	}
	if len(p.rest) > 0 {
		t.Errorf("after the handshake line standard output has %s: want nothing", stage.Excerpt(p.rest))
	}
}

func noStdin(t *engine.T) {
	p := start(t, launch{through: []string{"/bin/sh", "-c", `exec "$@" <&-`, "sh"}}).serve()
	stage.Pause(t, stage.Moment) // what reads it has found its end by now
	p.works("with standard input closed")
}

func emptyEnv(t *engine.T) {
	p := start(t, launch{orphan: true}).serve()
	box := p.create()
	box.Run("echo", "made").Code(0).Out("made\n")
	box.Delete()
}

// ends are the cases about how a plugin ends.
func ends() []engine.Case {
	return []engine.Case{
		{
			ID: "proc/exits-on-host-death", Title: "When its host is killed it exits within 10 seconds; sandboxes live on, and a new plugin serves them.",
			Profile: engine.Resilience, Requirements: []string{"REQ-PROC-007", "REQ-REC-001"}, Kinds: processes, Phase: engine.Apart, Cost: 10,
			Budget: slow, Run: hostDies,
		},
		{
			ID: "proc/sigterm-drains", Title: "SIGTERM lets the call in flight finish, and then ends the plugin with exit code 0.",
			Profile: engine.Resilience, Requirements: []string{"REQ-PROC-011"}, Kinds: processes, Phase: engine.Apart, Cost: 5,
			Run: sigtermDrains,
		},
		{
			ID: "proc/sigint-ignored", Title: "SIGINT changes nothing.",
			Profile: engine.Resilience, Requirements: []string{"REQ-PROC-011"}, Kinds: processes, Phase: engine.Apart,
			Run: sigintIgnored,
		},
		{
			ID: "proc/no-descendants-after-stop", Title: "A plugin that was stopped and has no sandboxes leaves no process behind.",
			Profile: engine.Resilience, Requirements: []string{"REQ-PROC-010"}, Kinds: processes, Phase: engine.Apart, Cost: 3,
			Run: noDescendants,
		},
	}
}

// hosting is a host that dies without a word: it says on descriptor 3 which
// process the plugin is.
const hosting = handshake.EnvParentPID + `=$$ "$@" <&0 3>&- & echo $! >&3; wait`

func hostDies(t *engine.T) {
	said, theirs := pipe(t)
	t.Cleanup(func(context.Context) { _ = said.Close() }) // it was read
	p := start(t, launch{through: []string{"/bin/sh", "-c", hosting, "sh"}, orphan: true, extra: theirs})
	_ = theirs.Close() // the host has its own
	line, err := bufio.NewReader(said).ReadString('\n')
	broken(t, "read the plugin's process id", err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	broken(t, "read the plugin's process id", err)
	t.Cleanup(func(context.Context) {
		if alive(pid) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it did not end by itself
		}
	})
	p.serve()
	box := p.create()
	t.Step("kill the host")
	broken(t, "kill the host", p.cmd.Process.Kill())
	<-p.ended
	dead := time.Now()
	for alive(pid) {
		if time.Since(dead) > handshake.OrphanExit {
			t.Fatalf("%s after its host was killed the plugin, process %d, still runs: want it to exit", handshake.OrphanExit, pid)
		}
		stage.Pause(t, 20*time.Millisecond)
	}
	t.Measure("orphan.exit", time.Since(dead))
	next := start(t, launch{state: p.state}).serve()
	found := box.By(next.client)
	if s := found.Get().GetState(); s != providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		t.Errorf("after the death of host and plugin the sandbox is %s: want RUNNING", stage.StateName(s))
	}
	found.Run("true").Code(0)
	found.Delete()
}

func sigtermDrains(t *engine.T) {
	p := start(t, launch{}).serve()
	box := p.create()
	attached := box.Start(stage.Script("echo begun; sleep 1; echo finished")).Attach()
	attached.Until("begun")
	p.signal(syscall.SIGTERM)
	attached.Wait().Code(0).Out("begun\nfinished\n")
	p.awaitExit("after SIGTERM and the end of the call in flight")
	// The sandbox is not the plugin's to take along.
	next := start(t, launch{state: p.state}).serve()
	box.By(next.client).Delete()
}

func sigintIgnored(t *engine.T) {
	p := start(t, launch{}).serve()
	p.signal(syscall.SIGINT)
	stage.Pause(t, stage.Moment)
	p.works("after SIGINT")
	p.signal(syscall.SIGINT)
	p.works("after a second SIGINT")
	select {
	case <-p.ended:
		t.Fatalf("after SIGINT the plugin ended with %s: want it to ignore that", p.cmd.ProcessState)
	default:
	}
}

func noDescendants(t *engine.T) {
	if !hasProc() {
		t.Skip(engine.Platform, "there is no /proc")
	}
	p := start(t, launch{}).serve()
	box := p.create()
	box.Run("true").Code(0)
	box.Delete()
	p.stop()
	t.Cleanup(func(context.Context) {
		for pid := range descendants(p) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may end by itself meanwhile
		}
	})
	stopped := time.Now()
	for left := descendants(p); len(left) > 0; left = descendants(p) {
		if time.Since(stopped) > lastBreath {
			t.Fatalf("%s after the plugin was stopped these processes of it still run: %v: want none", lastBreath, left)
		}
		stage.Pause(t, 20*time.Millisecond)
	}
}

// lastBreath is how long what was told to end may take for it.
const lastBreath = 5 * time.Second

// descendants are the processes, but for the plugin's own, that inherited its
// environment: their command lines by process id.
func descendants(p *process) map[int]string {
	out := map[int]string{}
	entries, err := os.ReadDir("/proc")
	broken(p.t, "look at processes", err)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == p.pid() || !alive(pid) {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err != nil || !strings.Contains("\x00"+string(env), "\x00"+socketDir+"="+p.dir+"\x00") {
			continue // another's, or already gone
		}
		line, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline") // for the message alone
		out[pid] = strings.ReplaceAll(strings.TrimRight(string(line), "\x00"), "\x00", " ")
	}
	return out
}
