package local_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/plugins/local/shim"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// counterSpec is a process that counts for ever, in its memory.
func counterSpec() *providerv1.ExecSpec {
	return &providerv1.ExecSpec{
		Argv:         []string{"sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done"},
		OutputPolicy: providerv1.OutputPolicy_OUTPUT_POLICY_DROP_OLDEST,
	}
}

// lines collects output until n lines more are there.
type lines struct {
	bytes.Buffer
	n int
}

func (l *lines) Write(p []byte) (int, error) {
	_, _ = l.Buffer.Write(p)
	if bytes.Count(l.Bytes(), []byte("\n")) >= l.n {
		return len(p), errEnough
	}
	return len(p), nil
}

// count reads n lines of a counter from an offset, and checks that they follow
// each other without a gap.
func (p *plugin) count(r *providerv1.SandboxRef, id string, from int64, n int) (last int, next int64) {
	p.t.Helper()
	out := &lines{n: n}
	if exit := p.attach(r, id, &providerv1.ExecOpen{StdoutFrom: from, StderrFrom: -1}, nil, out, io.Discard); exit != nil {
		p.t.Fatalf("the counter ended: %v", exit)
	}
	text := out.String()
	whole := text[:strings.LastIndexByte(text, '\n')+1]
	prev := -1
	for line := range strings.Lines(whole) {
		v, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			p.t.Fatalf("line %q: %v", line, err)
		}
		if prev >= 0 && v != prev+1 {
			p.t.Fatalf("%d follows %d", v, prev)
		}
		prev = v
	}
	return prev, from + int64(len(whole))
}

func (p *plugin) pause(r *providerv1.SandboxRef) {
	p.t.Helper()
	resp, err := p.client.PauseSandbox(p.ctx(), &providerv1.PauseSandboxRequest{
		Sandbox: r, Minimum: &providerv1.Keeps{Disk: true, Memory: true, Processes: true},
	})
	if err != nil {
		p.t.Fatalf("pause: %v", err)
	}
	if resp.GetSandbox().GetState() != providerv1.SandboxState_SANDBOX_STATE_PAUSED || !resp.GetSandbox().GetKept().GetProcesses() {
		p.t.Fatalf("paused sandbox: %v", resp.GetSandbox())
	}
}

func (p *plugin) resume(r *providerv1.SandboxRef) {
	p.t.Helper()
	if _, err := p.client.ResumeSandbox(p.ctx(), &providerv1.ResumeSandboxRequest{Sandbox: r}); err != nil {
		p.t.Fatalf("resume: %v", err)
	}
}

// TestACounterGoesOnWhereItWas: across pauses and restarts of the plugin, not a
// line is lost or doubled.
func TestACounterGoesOnWhereItWas(t *testing.T) {
	p := start(t)
	sb := p.create(nil)
	id := p.startExec(sb, counterSpec())
	last, next := p.count(sb, id, 0, 20)
	for round := range 3 {
		p.pause(sb)
		if procs := processesOf(t, p.state); len(procs) != 0 {
			t.Fatalf("a paused sandbox has processes: %v", procs)
		}
		p.restart()
		p.resume(sb)
		before := last
		last, next = p.count(sb, id, next, 20)
		if last != before+20 && last < before+1 {
			t.Fatalf("round %d: from %d to %d", round, before, last)
		}
	}
}

func TestFilesSurviveAPause(t *testing.T) {
	p := start(t)
	sb := p.create(nil)
	if got := p.sh(sb, "head -c 3000000 /dev/urandom > /var/blob; sha256sum /var/blob; exec 9>/tmp/open; echo kept > /tmp/f"); got.exit.GetCode() != 0 {
		t.Fatalf("%+v", got)
	}
	want := p.sh(sb, "sha256sum /var/blob; cat /tmp/f").stdout
	p.pause(sb)
	if _, err := p.client.StartExec(p.ctx(), &providerv1.StartExecRequest{
		Sandbox: sb, ExecId: "exe_x", RequestDigest: make([]byte, 32), Spec: &providerv1.ExecSpec{Argv: []string{"true"}},
	}); !fault.Has(fault.From(err), providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING) {
		t.Errorf("exec while paused: %v", err)
	}
	p.resume(sb)
	if got := p.sh(sb, "sha256sum /var/blob; cat /tmp/f").stdout; got != want || got == "" {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestForkIntoEight(t *testing.T) {
	p := start(t)
	sb := p.create(nil)
	id := p.startExec(sb, counterSpec())
	_, next := p.count(sb, id, 0, 10)
	req := &providerv1.ForkSandboxRequest{
		Sandbox: sb, Operation: operation(), Minimum: &providerv1.Keeps{Disk: true, Memory: true, Processes: true},
	}
	for range 8 {
		req.Identities = append(req.Identities, identity())
	}
	begin := time.Now()
	resp, err := p.client.ForkSandbox(p.ctx(), req)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("8 copies in %v", time.Since(begin))
	for i, child := range resp.GetSandboxes() {
		// Each copy counts on from the fork, by itself.
		p.count(ref(child), id, next, 20)
		if got := p.sh(ref(child), fmt.Sprintf("echo %d > /tmp/mine; cat /tmp/mine", i)); got.stdout != fmt.Sprintln(i) {
			t.Errorf("copy %d: %+v", i, got)
		}
	}
	p.count(sb, id, next, 20)
	if got := p.sh(sb, "cat /tmp/mine"); got.exit.GetCode() == 0 {
		t.Errorf("a copy's file shows in the original: %+v", got)
	}
	if n := len(p.list()); n != 9 {
		t.Errorf("%d sandboxes, want 9", n)
	}
	// The same key gives the same copies.
	again, err := p.client.ForkSandbox(p.ctx(), req)
	if err != nil || again.GetSandboxes()[3].GetIdentity().GetSandboxId() != resp.GetSandboxes()[3].GetIdentity().GetSandboxId() {
		t.Errorf("fork again: %v %v", again, err)
	}
}

func TestSnapshotAndRestore(t *testing.T) {
	p := start(t)
	sb := p.create(nil)
	if got := p.sh(sb, "echo one > /srv/state"); got.exit.GetCode() != 0 {
		t.Fatal(got)
	}
	snap, err := p.client.CreateSnapshot(p.ctx(), &providerv1.CreateSnapshotRequest{
		Sandbox: sb, Operation: operation(), SnapshotId: "snp_1", Minimum: &providerv1.Keeps{Disk: true, Memory: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.sh(sb, "echo two > /srv/state")
	p.delete(sb)
	restored, err := p.client.RestoreSnapshot(p.ctx(), &providerv1.RestoreSnapshotRequest{
		Operation: operation(), Identity: identity(), SnapshotId: "snp_1", Handle: snap.GetSnapshot().GetHandle(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.sh(ref(restored.GetSandbox()), "cat /srv/state"); got.stdout != "one\n" {
		t.Errorf("restored: %+v", got)
	}
	if _, err := p.client.DeleteSnapshot(p.ctx(), &providerv1.DeleteSnapshotRequest{SnapshotId: "snp_1"}); err != nil {
		t.Error(err)
	}
	left, _ := filepath.Glob(filepath.Join(p.state, "snapshots", "*"))
	if len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestAKilledShimIsTold(t *testing.T) {
	p := start(t)
	sb := p.create(nil)
	id := p.startExec(sb, counterSpec())
	p.count(sb, id, 0, 5)
	if err := shim.Kill(p.ctx(), filepath.Join(p.state, "sandboxes", sb.GetSandboxId())); err != nil {
		t.Fatal(err)
	}
	got, err := p.get(sb)
	if err != nil || got.GetState() != providerv1.SandboxState_SANDBOX_STATE_FAILED || got.GetStatusReason() == "" {
		t.Errorf("after kill -9 of the shim: %v, %v", got, err)
	}
	_, err = p.client.GetExec(p.ctx(), &providerv1.GetExecRequest{Sandbox: sb, ExecId: id})
	if !fault.Has(fault.From(err), providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING) {
		t.Errorf("exec of a dead sandbox: %v", err)
	}
	if procs := processesOf(t, p.state); len(procs) != 0 {
		t.Errorf("processes are left: %v", procs)
	}
}

func TestSandboxesOutliveThePlugin(t *testing.T) {
	p := start(t)
	sb := p.create(nil)
	id := p.startExec(sb, counterSpec())
	_, next := p.count(sb, id, 0, 10)
	p.restart()
	rec, err := p.client.Recover(p.ctx(), &providerv1.RecoverRequest{Sandboxes: []*providerv1.SandboxRef{sb, {SandboxId: "sbx_never"}}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []providerv1.RecoveryOutcome{
		providerv1.RecoveryOutcome_RECOVERY_OUTCOME_RECOVERED, providerv1.RecoveryOutcome_RECOVERY_OUTCOME_GONE,
	} {
		if got := rec.GetRecoveries()[i].GetOutcome(); got != want {
			t.Errorf("recovery %d: %v, want %v", i, got, want)
		}
	}
	p.count(sb, id, next, 10)
}

func TestOneSandboxPerKey(t *testing.T) {
	p := start(t)
	req := &providerv1.CreateSandboxRequest{Operation: operation(), Identity: identity()}
	var mu sync.Mutex
	ids := map[string]int{}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			resp, err := p.client.CreateSandbox(p.ctx(), req)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			ids[resp.GetSandbox().GetIdentity().GetSandboxId()]++
		})
	}
	wg.Wait()
	if len(ids) != 1 || len(p.list()) != 1 {
		t.Errorf("ids %v, %d sandboxes", ids, len(p.list()))
	}
	other := &providerv1.CreateSandboxRequest{
		Operation: &providerv1.Operation{IdempotencyKey: req.GetOperation().GetIdempotencyKey(), RequestDigest: make([]byte, 32)},
		Identity:  identity(),
	}
	if _, err := p.client.CreateSandbox(p.ctx(), other); !fault.Has(fault.From(err), providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED) {
		t.Errorf("other digest: %v", err)
	}
	byKey, err := p.client.GetSandbox(p.ctx(), &providerv1.GetSandboxRequest{
		By: &providerv1.GetSandboxRequest_IdempotencyKey{IdempotencyKey: req.GetOperation().GetIdempotencyKey()},
	})
	if err != nil || ids[byKey.GetSandbox().GetIdentity().GetSandboxId()] != 16 {
		t.Errorf("by key: %v %v", byKey, err)
	}
}

// someLife is longer than a sandbox takes to be made on a busy machine.
const someLife = 5 * time.Second

// TestALifeTooShort: a sandbox whose lifetime may end before it runs is made, or is
// said to have expired.
func TestALifeTooShort(t *testing.T) {
	p := start(t)
	for _, life := range []time.Duration{time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond, 600 * time.Millisecond} {
		resp, err := p.client.CreateSandbox(p.ctx(), &providerv1.CreateSandboxRequest{
			Operation: operation(), Identity: identity(), Spec: &providerv1.SandboxSpec{Lifetime: durationpb.New(life)},
		})
		switch {
		case err == nil:
			p.awaitExpiry(ref(resp.GetSandbox()))
		case !fault.Has(fault.From(err), providerv1.ErrorReason_ERROR_REASON_SANDBOX_EXPIRED):
			t.Errorf("a life of %s: %v, want it made or expired", life, err)
		}
		if left := p.list(); len(left) != 0 {
			t.Errorf("after a life of %s: %v", life, left)
		}
	}
}

func TestLifetimeEndsWithoutThePlugin(t *testing.T) {
	p := start(t)
	sb := p.create(&providerv1.SandboxSpec{Lifetime: durationpb.New(someLife)})
	p.stop()
	p.awaitExpiry(sb)
	p.run()
	if _, err := p.get(sb); !fault.Has(fault.From(err), providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) {
		t.Errorf("after its lifetime: %v", err)
	}
}

// awaitExpiry waits until a sandbox has ended by itself, without a plugin.
func (p *plugin) awaitExpiry(sb *providerv1.SandboxRef) {
	p.t.Helper()
	record := filepath.Join(p.state, "sandboxes", sb.GetSandboxId(), "record.json")
	deadline := time.After(someLife + 30*time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(record); os.IsNotExist(err) && len(processesOf(p.t, p.state)) == 0 {
			return
		}
		select {
		case <-deadline:
			p.t.Fatalf("still there: %v", processesOf(p.t, p.state))
		case <-tick.C:
		}
	}
}

// TestAnExpiredSandboxLeavesNothing: with the plugin there, not even its folder.
func TestAnExpiredSandboxLeavesNothing(t *testing.T) {
	p := start(t)
	sb := p.create(&providerv1.SandboxSpec{Lifetime: durationpb.New(someLife)})
	folder := filepath.Join(p.state, "sandboxes", sb.GetSandboxId())
	deadline := time.After(someLife + 30*time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(folder); os.IsNotExist(err) {
			return
		}
		select {
		case <-deadline:
			left, _ := filepath.Glob(filepath.Join(folder, "*"))
			t.Fatalf("left: %v", left)
		case <-tick.C:
		}
	}
}
