package local_test

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandbar-dev/sandbar/plugins/local/shim"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// hostname returns the host name, as everything inside tells it.
func (p *plugin) hostname(r *providerv1.SandboxRef) string {
	p.t.Helper()
	got := strings.Fields(p.sh(r, "uname -n; hostname; cat /proc/sys/kernel/hostname /etc/hostname; sed -n 's/^127.0.1.1.//p' /etc/hosts").stdout)
	if len(got) != 5 {
		p.t.Fatalf("the host name is %q: want it five times", got)
	}
	for _, name := range got {
		if name != got[0] {
			p.t.Errorf("the host name is %q: want one", got)
		}
	}
	return got[0]
}

func TestHostNames(t *testing.T) {
	p := start(t)
	sb := p.create(nil)
	own := p.hostname(sb)
	p.pause(sb)
	p.resume(sb)
	if got := p.hostname(sb); got != own {
		t.Errorf("after a pause the host name is %q: want %q, as before", got, own)
	}
	id := p.startExec(sb, counterSpec())
	_, next := p.count(sb, id, 0, 3)
	fork, err := p.client.ForkSandbox(p.ctx(), &providerv1.ForkSandboxRequest{
		Sandbox: sb, Operation: operation(), Identities: []*providerv1.Identity{identity(), identity()}, Minimum: shim.Everything(),
	})
	if err != nil {
		t.Fatal(err)
	}
	one, two := ref(fork.GetSandboxes()[0]), ref(fork.GetSandboxes()[1])
	p.count(one, id, next, 3)
	p.warmUp(1)
	p.awaitPooled("1")
	warm := p.create(nil)
	if !p.fromPool(warm) {
		t.Error("the sandbox was started for the request")
	}
	seen := map[string]bool{}
	for _, r := range []*providerv1.SandboxRef{sb, one, two, warm} {
		name := p.hostname(r)
		if !strings.HasPrefix(name, "sbx-") || seen[name] {
			t.Errorf("%s has the host name %q: want one of its own", r.GetSandboxId(), name)
		}
		seen[name] = true
		if diff := p.diff(r, ""); len(diff) > 0 {
			t.Errorf("%s differs by %q: want nothing, since nobody wrote", r.GetSandboxId(), diff)
		}
	}
	p.awaitPooled("1")
	asked := p.create(&providerv1.SandboxSpec{Hostname: "build-7"})
	if got := p.hostname(asked); got != "build-7" || !p.fromPool(asked) {
		t.Errorf("the host name is %q, from the pool: %t: want build-7, from the pool", got, p.fromPool(asked))
	}
}

// TestHostNameOfAnImage: its files are the guest's own, and what somebody added to
// them stays.
func TestHostNameOfAnImage(t *testing.T) {
	p := start(t)
	image, _ := pushImage(t, "content")
	sb := p.create(ociSpec(image))
	if err := p.write(sb, "/etc/hosts", []byte("127.0.0.1 localhost\n127.0.1.1\t"+imageHost(p, sb)+"\n10.0.0.9 db\n"), true); err != nil {
		t.Fatal(err)
	}
	fork, err := p.client.ForkSandbox(p.ctx(), &providerv1.ForkSandboxRequest{
		Sandbox: sb, Operation: operation(), Identities: []*providerv1.Identity{identity()}, Minimum: shim.Everything(),
	})
	if err != nil {
		t.Fatal(err)
	}
	copied := ref(fork.GetSandboxes()[0])
	name := imageHost(p, copied)
	if name == imageHost(p, sb) {
		t.Errorf("the copy has the host name %q of its original", name)
	}
	hosts, err := p.read(copied, "/etc/hosts")
	if want := "127.0.0.1 localhost\n127.0.1.1\t" + name + "\n10.0.0.9 db\n"; err != nil || string(hosts) != want {
		t.Errorf("/etc/hosts of the copy is %q, %v: want %q", hosts, err, want)
	}
	if diff := cmp.Diff([]string{"A /etc/hosts", "A /tmp"}, p.diff(copied, "")); diff != "" {
		t.Errorf("difference of the copy (-want +got):\n%s", diff)
	}
}

func imageHost(p *plugin, r *providerv1.SandboxRef) string {
	p.t.Helper()
	name, err := p.read(r, "/etc/hostname")
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimSpace(string(name))
}

func (p *plugin) cpu(r *providerv1.SandboxRef) time.Duration {
	p.t.Helper()
	resp, err := p.client.GetUsage(p.ctx(), &providerv1.GetUsageRequest{Sandbox: r})
	if err != nil {
		p.t.Fatal(err)
	}
	return time.Duration(resp.GetUsage().GetCpuNanos())
}

// TestUsageGoesOn: over a pause it neither grows nor falls, and a copy begins with
// none.
func TestUsageGoesOn(t *testing.T) {
	p := start(t)
	sb := p.create(nil)
	p.sh(sb, "n=0; while [ $n -lt 300000 ]; do n=$((n+1)); done")
	before := p.cpu(sb)
	p.pause(sb)
	paused := p.cpu(sb)
	if paused < before || p.cpu(sb) != paused {
		t.Errorf("processor time: %v before the pause, %v and then %v in it", before, paused, p.cpu(sb))
	}
	_, err := p.client.StatFile(p.ctx(), &providerv1.StatFileRequest{Sandbox: sb, Path: "/"})
	if e := fault.From(err); e.Effect != providerv1.Effect_EFFECT_NONE || !fault.Has(e, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING) {
		t.Errorf("a call to a paused sandbox: %v, effect %v: want SANDBOX_NOT_RUNNING without effect", err, e.Effect)
	}
	p.resume(sb)
	if got := p.cpu(sb); got < paused {
		t.Errorf("processor time fell from %v to %v", paused, got)
	}
	fork, err := p.client.ForkSandbox(p.ctx(), &providerv1.ForkSandboxRequest{
		Sandbox: sb, Operation: operation(), Identities: []*providerv1.Identity{identity()}, Minimum: shim.Everything(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.cpu(ref(fork.GetSandboxes()[0])); got >= before {
		t.Errorf("a copy begins with %v of processor time; its original had used %v", got, before)
	}
}

// TestOutOfMemoryIsTold: a system call that takes it all cannot be interrupted, so
// that the sandbox ends as a whole.
func TestOutOfMemoryIsTold(t *testing.T) {
	p := start(t)
	sb := p.create(&providerv1.SandboxSpec{Resources: &providerv1.Resources{MemoryBytes: 256 << 20}})
	got := p.sh(sb, "dd if=/dev/zero of=/dev/null bs=640M count=1")
	failed, err := p.get(sb)
	if err != nil {
		t.Fatal(err)
	}
	if failed.GetState() == providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		if got.exit.GetCode() == 0 && got.exit.GetSignal() == "" {
			t.Errorf("a command took 640 MiB in a sandbox of 256 MiB: %v", got.exit)
		}
		return
	}
	if !got.exit.GetOutOfMemory() || got.exit.GetSignal() != "SIGKILL" || got.exit.GetCause() != providerv1.ExitCause_EXIT_CAUSE_SANDBOX {
		t.Errorf("the command ended with %v: want SIGKILL, out of memory, cause SANDBOX", got.exit)
	}
	if !strings.Contains(failed.GetStatusReason(), "memory limit") {
		t.Errorf("the sandbox says %q: want that it exceeded its memory limit", failed.GetStatusReason())
	}
	_, err = p.client.StartExec(p.ctx(), &providerv1.StartExecRequest{
		Sandbox: sb, ExecId: "exe_" + rand.Text(), Spec: &providerv1.ExecSpec{Argv: []string{"true"}}, RequestDigest: make([]byte, 32),
	})
	if err == nil || !strings.Contains(err.Error(), failed.GetStatusReason()) {
		t.Errorf("a command in the sandbox that failed: %v; want it to say %q", err, failed.GetStatusReason())
	}
}

// TestTooLittleMemoryIsRefused: a sandbox in which nothing could run is not made.
func TestTooLittleMemoryIsRefused(t *testing.T) {
	p := start(t)
	_, err := p.client.CreateSandbox(p.ctx(), &providerv1.CreateSandboxRequest{
		Operation: operation(), Identity: identity(), Spec: &providerv1.SandboxSpec{Resources: &providerv1.Resources{MemoryBytes: 1024}},
	})
	e := fault.From(err)
	if e == nil || e.Reason != providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE || !strings.Contains(e.Error(), "memory_bytes is 1024: want at least 8388608") {
		t.Errorf("1 KiB of memory: %v", err)
	}
	least := p.create(&providerv1.SandboxSpec{Resources: &providerv1.Resources{MemoryBytes: 8 << 20}})
	if got := p.sh(least, "echo works"); got.stdout != "works\n" {
		t.Errorf("in the least memory: %+v", got)
	}
}
