package files

import (
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const mib = 1 << 20

// limits are the cases about resources.
func limits() []engine.Case {
	req := []string{"REQ-LIM-001"}
	return []engine.Case{
		{
			ID: "limits/memory", Title: "A command that takes more memory than the sandbox has is stopped, or its sandbox is, and says why.",
			Profile: engine.Core, Requirements: req, Needs: []string{"compute.memory"}, Cost: 10,
			Run: memory,
		},
		{
			ID: "limits/disk", Title: "A full disk is an error of the write, and the sandbox goes on.",
			Profile: engine.Core, Requirements: append([]string{"REQ-FS-007"}, req...), Needs: []string{"compute.disk"}, Cost: 20, Budget: 2 * time.Minute,
			Run: disk,
		},
		{
			ID: "limits/pids", Title: "More processes than the limit cannot be started, and the sandbox can be used again afterwards.",
			Profile: engine.Core, Requirements: req, Needs: []string{"compute.pids", "exec.signal"}, Cost: 10, Budget: time.Minute,
			Run: pids,
		},
		{
			ID: "limits/cpu", Title: "A sandbox does not use more processor time than its limit allows.",
			Profile: engine.Core, Requirements: req, Needs: []string{"compute.cpu", "usage"}, Cost: 10, Phase: engine.Alone,
			Run: cpu,
		},
		{
			ID: "limits/told", Title: "A sandbox tells the limits that it got, at least those that were asked for.",
			Profile: engine.Core, Requirements: []string{"REQ-LIFE-001"}, Needs: []string{"compute.memory"}, Cost: 3,
			Run: limitsTold,
		},
	}
}

func limited(r *providerv1.Resources) func(*providerv1.CreateSandboxRequest) {
	return func(req *providerv1.CreateSandboxRequest) { req.Spec.Resources = r }
}

func memory(t *engine.T) {
	size := stage.Number(t, "memory_mib", 256)
	box := stage.Create(t, limited(&providerv1.Resources{MemoryBytes: int64(size) * mib}))
	// dd takes a buffer of one block, and reading fills it.
	take := func(part float64) stage.Output {
		return box.Run("dd", "if=/dev/zero", "of=/dev/null", "bs="+strconv.Itoa(int(float64(size)*part))+"M", "count=1")
	}
	take(0.25).Code(0)
	out := take(2.5)
	if out.Exit.GetSignal() == "" && out.Exit.GetCode() == 0 {
		t.Errorf("in a sandbox of %d MiB a command took two and a half times that: want it stopped", size)
	}
	// What is stopped is the command, or the sandbox as a whole, which then says so.
	if sb := box.Get(); sb.GetState() == providerv1.SandboxState_SANDBOX_STATE_FAILED {
		if sb.GetStatusReason() == "" {
			t.Errorf("the sandbox FAILED without a status_reason: want it to say that its memory was used up")
		}
		return
	}
	take(0.1).Code(0)
}

func disk(t *engine.T) {
	size := stage.Number(t, "disk_mib", 64)
	box := stage.Create(t, limited(&providerv1.Resources{DiskBytes: int64(size) * mib}))
	out := box.Sh(`cd /tmp; for n in 1 2 3 4 5 6; do said=$(dd if=/dev/zero of=fill$n bs=1M count=` + strconv.Itoa(size/4) + ` 2>&1) || { echo "$said"; exit 9; }; echo $n; done`)
	out.Code(9)
	if !strings.Contains(string(out.Stdout), "No space left") {
		t.Errorf("the write that filled the disk says %s: want that no space is left", stage.Excerpt(out.Stdout))
	}
	if t.Has("fs.write") {
		_, err := box.TryWrite(&providerv1.WriteFileOpen{Path: "/tmp/more"}, make([]byte, size/4*mib))
		refusedWith(t, "WriteFile on a full disk", err, "ENOSPC")
	}
	box.Sh("rm /tmp/fill*; echo room > /tmp/again; cat /tmp/again").Code(0).Out("room\n")
}

// pids counts the children that a shell could start, all of which live on: what it
// does when it cannot start one more differs.
func pids(t *engine.T) {
	box := stage.Create(t, limited(&providerv1.Resources{Pids: 64}))
	box.Sh("mkdir /tmp/ran").Code(0)
	cmd := box.Start(stage.Script(`(n=0 last=; while [ $n -lt 100 ]; do
		sleep 600 &
		[ "$!" = "$last" ] || : > /tmp/ran/$n
		last=$! n=$((n+1))
	done); echo tried; exec sleep 600`))
	stage.Eventually(t, t.Slowly(3*patience), "the limit to be met", func(ctx) bool {
		e := cmd.Get()
		return e.GetStdoutTotal() > 0 || e.GetStderrTotal() > 0 || e.GetState() == providerv1.ExecState_EXEC_STATE_EXITED
	})
	cmd.Signal(providerv1.ExecSignal_EXEC_SIGNAL_KILL) // the children too: no other process can be started for that
	cmd.Wait()
	ran := 0
	stage.Eventually(t, t.Slowly(patience), "the sandbox to be usable again", func(ctx) bool {
		req := box.NewExec(stage.Script("ls /tmp/ran | wc -l"))
		if _, err := t.Client().StartExec(t.Context(), req); err != nil {
			return false
		}
		out := box.Known(req).Wait()
		n, err := strconv.Atoi(strings.TrimSpace(string(out.Stdout)))
		ran = n
		return err == nil && out.Exit.GetSignal() == "" && out.Exit.GetCode() == 0
	})
	if ran > 64 {
		t.Errorf("in a sandbox of 64 processes %d children ran at once: want the limit to hold", ran)
	}
}

func cpu(t *engine.T) {
	if runtime.NumCPU() < 2 {
		t.Skip(engine.Platform, "a machine with two processors or more")
	}
	box := stage.Create(t, limited(&providerv1.Resources{CpuMillis: 1000}))
	for range 4 {
		box.Start(stage.Script("while :; do :; done"))
	}
	// The time is taken around the calls: what it takes them to come here is no
	// time that the sandbox did not have.
	start := time.Now()
	before := box.CPU()
	stage.Pause(t, 2*time.Second)
	took := box.CPU() - before
	elapsed := time.Since(start)
	const slack = 1.3
	if took.Seconds() > elapsed.Seconds()*slack {
		t.Errorf("a sandbox of one processor used %s of processor time in %s: want at most that", took.Round(time.Millisecond), elapsed.Round(time.Millisecond))
	}
}

func limitsTold(t *engine.T) {
	const want = 512 * mib
	box := stage.Create(t, limited(&providerv1.Resources{MemoryBytes: want}))
	if got := box.Get().GetResources().GetMemoryBytes(); got < want {
		t.Errorf("a sandbox of %s of memory tells %s", strconv.Itoa(want), strconv.FormatInt(got, 10))
	}
}
