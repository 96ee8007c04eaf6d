package persistence

import (
	"context"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// patience is for what a guest does in milliseconds.
const patience = 10 * time.Second

// forks are the cases about copies, whatever they have.
func forks() []engine.Case {
	needs := []string{"fork", "fork.disk"}
	return []engine.Case{
		{
			ID: "fork/copies-disk", Title: "Each copy has the files of the original and runs; the original runs on.",
			Profile: engine.Snapshot, Requirements: []string{"REQ-FORK-001"}, Needs: needs, Cost: 20,
			Run: copiesDisk,
		},
		{
			ID: "fork/independent", Title: "What is written in one copy, or in the original, is not seen in another.",
			Profile: engine.Snapshot, Requirements: []string{"REQ-FORK-001"}, Needs: needs, Cost: 20,
			Run: forkIndependent,
		},
		{
			ID: "fork/identities", Title: "The copies are listed with the identities they were given, and each has a host name of its own.",
			Profile: engine.Snapshot, Requirements: []string{"REQ-FORK-001", "REQ-LIFE-002", "REQ-GUEST-005"}, Needs: needs, Cost: 15,
			Run: forkIdentities,
		},
		{
			ID: "fork/idempotent", Title: "The same key gives the same copies; with another digest it is refused.",
			Profile: engine.Snapshot, Requirements: []string{"REQ-IDEM-001", "REQ-IDEM-002"}, Needs: needs, Cost: 15,
			Kinds: []subject.Kind{subject.Binary, subject.InProcess},
			Run:   forkIdempotent,
		},
		{
			ID: "fork/all-or-none", Title: "A fork that cannot make one of its copies makes none.",
			Profile: engine.Snapshot, Requirements: []string{"REQ-FORK-002"}, Needs: needs, Cost: 10,
			Kinds: []subject.Kind{subject.Binary, subject.InProcess},
			Run:   forkAllOrNone,
		},
		{
			ID: "fork/clock", Title: "The clock of a copy tells the time of the world.",
			Profile: engine.Snapshot, Requirements: []string{"REQ-GUEST-004"}, Needs: needs, Cost: 10,
			Run: forkClock,
		},
		{
			ID: "fork/no-downgrade", Title: "A fork whose copies would have less than asked is refused, and makes nothing.",
			Profile: engine.Snapshot, Requirements: []string{"REQ-KEEP-001"}, Needs: needs, Denies: "fork.processes", Cost: 5,
			Run: forkNoDowngrade,
		},
	}
}

func copiesDisk(t *engine.T) {
	box := stage.Create(t)
	mark := marked(box)
	for _, copied := range box.Fork(2, stage.Disk) {
		stillMarked(t, copied, mark)
	}
	stillMarked(t, box, mark)
	if got := box.Get(); got.GetState() != providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		t.Errorf("after the fork the original is %s: want RUNNING", stage.StateName(got.GetState()))
	}
}

func forkIndependent(t *engine.T) {
	box := stage.Create(t)
	mark := marked(box)
	copies := box.Fork(2, stage.Disk)
	copies[0].Sh("echo mine > /tmp/d/file; echo new > /tmp/d/new").Code(0)
	stillMarked(t, copies[1], mark)
	stillMarked(t, box, mark)
	if exists(copies[1], "/tmp/d/new") || exists(box, "/tmp/d/new") {
		t.Errorf("a file that was made in one copy is seen in another")
	}
	box.Sh("echo original > /tmp/d/file").Code(0)
	stillMarked(t, copies[1], mark)
}

func forkIdentities(t *engine.T) {
	box := stage.Create(t)
	req := box.NewFork(3, stage.Disk)
	for i, id := range req.GetIdentities() {
		id.Labels = map[string]string{"copy": itoa(i)}
	}
	resp, err := t.Client().ForkSandbox(t.Context(), req)
	stage.OK(t, "ForkSandbox", err)
	names := map[string]bool{box.Line("uname -n"): true}
	for _, copied := range box.Copies(req, resp) {
		if name := copied.Line("uname -n"); names[name] {
			t.Errorf("two of the sandboxes have the host name %q: want one derived from each one's id", name)
		} else {
			names[name] = true
		}
	}
	listed := map[string]string{}
	for _, sb := range stage.ListAll(t, t.Client(), t.Owner(), 0) {
		listed[sb.GetIdentity().GetSandboxId()] = sb.GetIdentity().GetLabels()["copy"]
	}
	for i, id := range req.GetIdentities() {
		if got, ok := listed[id.GetSandboxId()]; !ok || got != itoa(i) {
			t.Errorf("copy %s is listed (%v) with label copy=%q: want %d", id.GetSandboxId(), ok, got, i)
		}
	}
	if len(listed) != 4 {
		t.Errorf("%d sandboxes are listed: want the original and 3 copies", len(listed))
	}
}

func forkIdempotent(t *engine.T) {
	box := stage.Create(t)
	req := box.NewFork(2, stage.Disk)
	for range 2 {
		resp, err := t.Client().ForkSandbox(t.Context(), req)
		stage.OK(t, "ForkSandbox", err)
		box.Copies(req, resp)
	}
	if n := len(stage.ListAll(t, t.Client(), t.Owner(), 0)); n != 3 {
		t.Errorf("the owner has %d sandboxes: want the original and 2 copies", n)
	}
	other := box.NewFork(1, stage.Disk)
	other.Operation.IdempotencyKey = req.GetOperation().GetIdempotencyKey()
	_, err := t.Client().ForkSandbox(t.Context(), other)
	stage.Refused(t, "ForkSandbox with a used key and another digest", err, providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED)
}

// forkAllOrNone asks for a copy under the id of a sandbox that exists, which no
// provider can make.
func forkAllOrNone(t *engine.T) {
	box := stage.Create(t)
	req := box.NewFork(2, stage.Disk)
	req.Identities[1].SandboxId = box.ID()
	_, err := t.Client().ForkSandbox(t.Context(), req)
	if err == nil {
		t.Fatalf("ForkSandbox made a copy under the id of the original: want it refused")
	}
	stage.ProperError(t, "ForkSandbox into an id that is taken", err)
	listed := stage.ListAll(t, t.Client(), t.Owner(), 0)
	if len(listed) != 1 || listed[0].GetIdentity().GetSandboxId() != box.ID() {
		t.Errorf("after a fork that was refused the owner has %d sandboxes: want the original alone", len(listed))
	}
	box.Run("true").Code(0)
}

func forkClock(t *engine.T) {
	box := stage.Create(t)
	box.Fork(1, stage.Disk)[0].Clock(t)
}

func forkNoDowngrade(t *engine.T) {
	box := stage.Create(t)
	_, err := t.Client().ForkSandbox(t.Context(), box.NewFork(1, stage.Processes))
	f := stage.Refused(t, "a fork with processes", err, providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED)
	stage.NoEffect(t, "the fork", f)
	if n := len(stage.ListAll(t, t.Client(), t.Owner(), 0)); n != 1 {
		t.Errorf("the owner has %d sandboxes: want the original alone", n)
	}
}

// liveForks are the cases about copies with memory and processes.
func liveForks() []engine.Case {
	needs := []string{"fork", "fork.memory", "fork.processes"}
	return []engine.Case{
		{
			ID: "fork/copies-processes", Title: "In each copy the processes go on by themselves from the moment of the fork, with memory and open files; the original's too.",
			Profile: engine.PauseMemory, Requirements: []string{"REQ-FORK-003", "REQ-FORK-001"}, Needs: needs, Cost: 30,
			Run: copiesProcesses,
		},
		{
			ID: "fork/entropy", Title: "Random numbers of the kernel differ between copies.",
			Profile: engine.PauseMemory, Requirements: []string{"REQ-FORK-004"}, Needs: needs, Cost: 20,
			Run: forkEntropy,
		},
	}
}

func copiesProcesses(t *engine.T) {
	box := stage.Create(t)
	w := box.StartWitness()
	copies := box.Fork(3, stage.Processes)
	for _, copied := range copies {
		in := w.In(copied)
		in.Same("two")
		in.Contiguous()
	}
	w.Same("two")
	first := w.In(copies[0])
	n := first.Contiguous()
	if said := first.Same("three"); said.Count <= n-1 {
		t.Errorf("the process in a copy counted to %d and then says %d: want it to go on", n, said.Count)
	}
}

// forkEntropy has a process that runs before the fork read random numbers after
// it, so that it is the kernel's state that is seen, and not a new process's.
func forkEntropy(t *engine.T) {
	box := stage.Create(t)
	box.Start(stage.Script(`cd /tmp; exec 3< /dev/urandom; head -c 16 <&3 > /dev/null; : > ready
while [ ! -e go ]; do sleep 0.05; done; head -c 16 <&3 | od -An -tx1 > numbers.new; mv numbers.new numbers`))
	stage.Eventually(t, t.Slowly(patience), "the process to start", func(context.Context) bool { return exists(box, "/tmp/ready") })
	seen := map[string]string{}
	for _, sb := range append(box.Fork(2, stage.Processes), box) {
		sb.Sh(": > /tmp/go").Code(0)
		stage.Eventually(t, t.Slowly(patience), "random numbers", func(context.Context) bool { return exists(sb, "/tmp/numbers") })
		numbers := sb.Line("cat /tmp/numbers")
		if other, same := seen[numbers]; same {
			t.Errorf("sandboxes %s and %s read the same random numbers, %s", other, sb.ID(), numbers)
		}
		seen[numbers] = sb.ID()
	}
}
