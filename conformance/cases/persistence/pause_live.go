package persistence

import (
	"bytes"
	"context"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// livePauses are the cases about pausing that keeps memory and processes.
func livePauses() []engine.Case {
	needs := []string{"pause", "pause.memory", "pause.processes"}
	return []engine.Case{
		{
			ID: "pause/keeps-processes", Title: "A process goes on counting where it was, with its memory and its open file.",
			Profile: engine.PauseMemory, Requirements: []string{"REQ-PAUSE-003", "REQ-KEEP-002"}, Needs: needs, Cost: 15,
			Run: pauseKeepsProcesses,
		},
		{
			ID: "pause/stops-processes", Title: "Nothing inside runs while the sandbox is paused.",
			Profile: engine.PauseMemory, Requirements: []string{"REQ-PAUSE-001"}, Needs: needs, Cost: 15, Budget: time.Minute,
			Run: pauseStops,
		},
		{
			ID: "pause/keeps-pipes", Title: "A pipeline of two processes goes on, and what was in the pipe arrives.",
			Profile: engine.PauseMemory, Requirements: []string{"REQ-PAUSE-003"}, Needs: needs, Cost: 10,
			Run: pauseKeepsPipes,
		},
		{
			ID: "pause/attach-again", Title: "A command that ran through a pause is attached again by offset: its output has no gap.",
			Profile: engine.PauseMemory, Requirements: []string{"REQ-PAUSE-003", "REQ-EXEC-011"}, Needs: append([]string{"exec.reattach"}, needs...), Cost: 15,
			Run: pauseAttachAgain,
		},
		{
			ID: "pause/thrice", Title: "Three pauses in a row keep what one keeps.",
			Profile: engine.PauseMemory, Requirements: []string{"REQ-PAUSE-003"}, Needs: needs, Cost: 20,
			Run: pauseThrice,
		},
		{
			ID: "pause/exit-code-after", Title: "A command that was paused in the middle ends with its own exit code.",
			Profile: engine.PauseMemory, Requirements: []string{"REQ-PAUSE-003", "REQ-EXEC-031"}, Needs: append([]string{"exec.reattach"}, needs...), Cost: 10,
			Run: pauseExitCode,
		},
	}
}

func pauseKeepsProcesses(t *engine.T) {
	box := stage.Create(t)
	w := box.StartWitness()
	box.Pause(stage.Processes)
	box.Resume()
	w.Same("two")
	if n := w.Contiguous(); n < 2 {
		t.Errorf("the process counted to %d: want it to go on", n)
	}
}

func pauseStops(t *engine.T) {
	// Two processes count alike. While one of them is paused the other counts some
	// more, and that much the first must lag behind, give or take half of it.
	const some = 30
	box, other := stage.Create(t), stage.Create(t)
	w, clock := box.StartWitness(), other.StartWitness()
	begin := clock.Ask().Count
	first := w.Ask().Count
	box.Pause(stage.Processes)
	paused := clock.Ask().Count
	resumed := paused
	for resumed < paused+some { // each answer is a count further
		stage.Pause(t, 100*time.Millisecond)
		resumed = clock.Ask().Count
	}
	box.Resume()
	counted := w.Ask().Count - first
	alike := clock.Ask().Count - begin
	if most := alike - some/2; counted > most {
		t.Errorf("a process counted %d more around a pause in which another counted %d of its %d: want at most %d", counted, resumed-paused, alike, most)
	}
}

func pauseKeepsPipes(t *engine.T) {
	box := stage.Create(t)
	box.Start(stage.Script(`cd /tmp; (echo early; while [ ! -e go ]; do sleep 0.05; done; echo late) | (read a; : > ready; while [ ! -e go ]; do sleep 0.05; done; read b; echo "$a $b" > out.new; mv out.new out)`))
	stage.Eventually(t, 10*time.Second, "the pipeline to start", func(context.Context) bool { return exists(box, "/tmp/ready") })
	box.Pause(stage.Processes)
	box.Resume()
	box.Sh(": > /tmp/go").Code(0)
	stage.Eventually(t, 10*time.Second, "the pipeline to end", func(context.Context) bool { return exists(box, "/tmp/out") })
	if got := box.Line("cat /tmp/out"); got != "early late" {
		t.Errorf("the pipeline wrote %q: want %q", got, "early late")
	}
}

func exists(box *stage.Box, path string) bool {
	return len(box.Sh("ls "+path+" 2>/dev/null; true").Code(0).Stdout) > 0
}

func pauseAttachAgain(t *engine.T) {
	box := stage.Create(t)
	cmd := box.Start(stage.Script("i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); echo line $i; sleep 0.05; done; echo end"))
	first := cmd.Attach()
	first.Until("line 3\n")
	box.Pause(stage.Processes)
	seen := first.Stdout()
	first.Detach()
	box.Resume()
	second := cmd.Attach(stage.From(int64(len(seen)), 0))
	second.Grows(1)
	box.Sh(": > /tmp/stop").Code(0)
	out := second.Wait().Code(0)
	all := append(bytes.Clone(seen), out.Stdout...)
	wantLines(t, all)
}

// wantLines checks that output is line 1, line 2, … and end.
func wantLines(t *engine.T, all []byte) {
	lines := bytes.Split(bytes.TrimSuffix(all, []byte("\n")), []byte("\n"))
	for i, line := range lines {
		want := "line " + itoa(i+1)
		if i == len(lines)-1 {
			want = "end"
		}
		if string(line) != want {
			t.Fatalf("line %d of the output is %q: want %q, without a gap or a repetition", i+1, line, want)
		}
	}
}

func pauseThrice(t *engine.T) {
	box := stage.Create(t)
	w := box.StartWitness()
	for _, line := range []string{"two", "three", "four"} {
		box.Pause(stage.Processes)
		box.Resume()
		w.Same(line)
	}
	w.Contiguous()
}

func pauseExitCode(t *engine.T) {
	box := stage.Create(t)
	cmd := box.Start(stage.Script("while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 43"))
	box.Pause(stage.Processes)
	box.Resume()
	if state := cmd.Get().GetState(); state != providerv1.ExecState_EXEC_STATE_RUNNING {
		t.Errorf("after the resume GetExec says %s: want RUNNING", state)
	}
	box.Sh(": > /tmp/go").Code(0)
	cmd.Wait().Code(43).Cause(providerv1.ExitCause_EXIT_CAUSE_TASK)
}
