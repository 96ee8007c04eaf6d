package local_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sandbar-dev/sandbar/plugins/local/shim"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// warmUp asks for a pool of at most n.
func (p *plugin) warmUp(n int) {
	p.t.Helper()
	if err := p.setWarm(float64(n)); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = p.setWarm(0) }) // a plugin that drains has none
}

func (p *plugin) setWarm(n float64) error {
	p.t.Helper()
	_, err := p.client.Configure(p.ctx(), &providerv1.ConfigureRequest{StateDir: p.state, Owner: owner, Settings: &structpb.Struct{
		Fields: map[string]*structpb.Value{"warm_pool": structpb.NewNumberValue(n)},
	}})
	return err
}

// pooled is how many guests are ready, as the probe tells.
func (p *plugin) pooled() string {
	p.t.Helper()
	resp, err := p.client.Probe(p.ctx(), &providerv1.ProbeRequest{})
	if err != nil {
		p.t.Fatal(err)
	}
	for _, c := range resp.GetChecks() {
		if c.GetName() == "warm-pool" {
			count, _, _ := strings.Cut(c.GetDetail(), " ")
			return count
		}
	}
	return "none"
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("not after 20 s: %s", what)
		case <-tick.C:
		}
	}
}

func (p *plugin) awaitPooled(n string) {
	p.t.Helper()
	eventually(p.t, n+" ready", func() bool { return p.pooled() == n })
}

// fromPool says whether a sandbox's process began in the pool.
func (p *plugin) fromPool(r *providerv1.SandboxRef) bool {
	p.t.Helper()
	for _, line := range processesOf(p.t, p.state) {
		if strings.Contains(line, "runsc-") {
			continue
		}
		if strings.Contains(line, r.GetSandboxId()) {
			return false
		}
	}
	return true
}

func (p *plugin) members() []string {
	p.t.Helper()
	all, err := filepath.Glob(filepath.Join(p.state, "pool", "*"))
	if err != nil {
		p.t.Fatal(err)
	}
	return all
}

func TestWarmSandboxIsASandbox(t *testing.T) {
	p := start(t)
	p.warmUp(2)
	p.awaitPooled("1")
	if n := len(p.list()); n != 0 {
		t.Errorf("%d sandboxes before the first", n)
	}
	sb := p.create(&providerv1.SandboxSpec{
		Env: map[string]string{"COLOUR": "blue"}, Workdir: "/srv", User: "sandbox", Image: &providerv1.Image{
			Source: &providerv1.Image_Host{Host: &providerv1.HostImage{}},
		},
		Lifetime: durationpb.New(time.Hour),
	})
	if !p.fromPool(sb) {
		t.Error("the sandbox was started for the request")
	}
	if got := p.sh(sb, "echo $COLOUR; pwd; id -un"); got.stdout != "blue\n/srv\nsandbox\n" {
		t.Errorf("%+v", got)
	}
	id := p.startExec(sb, counterSpec())
	_, next := p.count(sb, id, 0, 10)
	p.restart()
	_, next = p.count(sb, id, next, 10)
	p.pause(sb)
	p.resume(sb)
	_, next = p.count(sb, id, next, 10)
	fork, err := p.client.ForkSandbox(p.ctx(), &providerv1.ForkSandboxRequest{
		Sandbox: sb, Operation: operation(), Identities: []*providerv1.Identity{identity()}, Minimum: shim.Everything(),
	})
	if err != nil {
		t.Fatal(err)
	}
	p.count(ref(fork.GetSandboxes()[0]), id, next, 10)
	p.count(sb, id, next, 10)
}

// TestWarmSandboxCanBeSaved: a checkpoint of a guest that began in the pool, whose
// folder had another name then.
func TestWarmSandboxCanBeSaved(t *testing.T) {
	p := start(t)
	p.warmUp(1)
	p.awaitPooled("1")
	sb := p.create(nil)
	if !p.fromPool(sb) {
		t.Error("the sandbox was started for the request")
	}
	if got := p.sh(sb, "head -c 300000 /dev/urandom > /var/blob; echo one > /tmp/f"); got.exit.GetCode() != 0 {
		t.Fatalf("%+v", got)
	}
	want := p.sh(sb, "sha256sum /var/blob").stdout
	p.pause(sb)
	p.restart()
	p.resume(sb)
	if got := p.sh(sb, "sha256sum /var/blob").stdout; got != want {
		t.Errorf("after the pause: %q, before: %q", got, want)
	}
	p.delete(sb)
	if left := processesOf(t, p.state); len(left) != 0 {
		t.Errorf("processes are left: %v", left)
	}
}

// look tells everything about the inside of a sandbox that does not change by
// itself.
const look = `
hostname; cat /etc/hostname /etc/hosts /etc/resolv.conf /etc/passwd /etc/group; cat /etc/machine-id 2>&1
id; umask; pwd; env | sort; ulimit -a; nproc; cat /proc/self/limits /proc/self/cgroup
grep -E 'MemTotal|SwapTotal' /proc/meminfo; grep CapEff /proc/self/status; cat /proc/mounts; df -P / /tmp /dev/shm | awk '{print $2, $6}'
for d in / /tmp /var/tmp /home /home/sandbox /root /run /dev /dev/shm /.sandbar; do ls -lan --time-style=+ $d; done
cd /proc; for p in [0-9]*; do tr '\0' ' ' < $p/cmdline 2>/dev/null | grep -v -e look -e 'tr ' ; done
cat /proc/net/dev /proc/net/route /proc/sys/kernel/hostname /proc/sys/kernel/ostype /proc/version
ls /proc/self/fd | wc -l; readlink /proc/1/exe
`

// look tells what is inside, with the one name that differs by intention made the
// same.
func (p *plugin) look(r *providerv1.SandboxRef) string {
	p.t.Helper()
	name := strings.TrimSpace(p.sh(r, "uname -n").stdout)
	if !strings.HasPrefix(name, "sbx-") {
		p.t.Errorf("the host name is %q: want one derived from %s", name, r.GetSandboxId())
	}
	return strings.ReplaceAll(p.sh(r, look).stdout, name, "HOST")
}

func TestWarmSandboxIsLikeACold(t *testing.T) {
	p := start(t)
	cold := p.create(nil)
	p.warmUp(2)
	p.awaitPooled("1")
	warm := p.create(nil)
	p.awaitPooled("1")
	other := p.create(nil)
	for _, sb := range []*providerv1.SandboxRef{warm, other} {
		if !p.fromPool(sb) {
			t.Fatal("the sandbox was started for the request")
		}
		if diff := cmp.Diff(p.look(cold), p.look(sb)); diff != "" {
			t.Errorf("the inside differs from that of a sandbox that was not kept ready:\n%s", diff)
		}
		var now int64
		if _, err := fmt.Sscan(p.sh(sb, "date +%s").stdout, &now); err != nil || time.Since(time.Unix(now, 0)).Abs() > time.Minute {
			t.Errorf("the clock inside says %d: %v", now, err)
		}
	}
	// What must not be alike between any two.
	seen := map[string]bool{}
	for _, sb := range []*providerv1.SandboxRef{cold, warm, other} {
		seen[p.sh(sb, "head -c 16 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/boot_id 2>/dev/null").stdout] = true
	}
	if len(seen) != 3 {
		t.Errorf("three sandboxes have this randomness: %v", seen)
	}
	got, err := p.get(warm)
	if err != nil || time.Since(got.GetCreatedAt().AsTime()) > time.Minute || got.GetState() != providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		t.Errorf("record: %v %v", got, err)
	}
}

func TestPoolServesItsOwnShapeOnly(t *testing.T) {
	p := start(t)
	p.warmUp(1)
	p.awaitPooled("1")
	for name, spec := range map[string]*providerv1.SandboxSpec{
		"memory": {Resources: &providerv1.Resources{MemoryBytes: 256 << 20}},
		"disk":   {Resources: &providerv1.Resources{DiskBytes: 64 << 20}},
		"pids":   {Resources: &providerv1.Resources{Pids: 77}},
		"cpu":    {Resources: &providerv1.Resources{CpuMillis: 1000}},
		"mount": {Mounts: []*providerv1.Mount{{
			Target: "/mnt/x", Source: &providerv1.Mount_HostPath{HostPath: t.TempDir()}, Mode: providerv1.MountMode_MOUNT_MODE_RO,
		}}},
	} {
		sb := p.create(spec)
		if p.fromPool(sb) {
			t.Errorf("%s: the sandbox came from the pool", name)
		}
		p.delete(sb)
	}
	if got := p.pooled(); got != "1" {
		t.Errorf("%s are ready after requests that none could serve: want 1", got)
	}
}

func TestPoolEnds(t *testing.T) {
	p := start(t)
	p.warmUp(1)
	p.awaitPooled("1")
	p.warmUp(0)
	if got, left := p.members(), processesOf(t, p.state); len(got)+len(left) != 0 {
		t.Errorf("a pool that was given up leaves %v and %v", got, left)
	}
	p.warmUp(1)
	p.awaitPooled("1")
	if _, err := p.client.Drain(p.ctx(), &providerv1.DrainRequest{}); err != nil {
		t.Fatal(err)
	}
	if got, left := p.members(), processesOf(t, p.state); len(got)+len(left) != 0 {
		t.Errorf("a drained plugin leaves %v and %v", got, left)
	}
}

func TestPoolReplacesAMemberThatDied(t *testing.T) {
	p := start(t)
	p.warmUp(1)
	p.awaitPooled("1")
	was := p.members()
	if err := shim.Kill(p.ctx(), was[0]); err != nil {
		t.Fatal(err)
	}
	sb := p.create(nil) // from the pool or not
	if got := p.sh(sb, "echo hi"); got.stdout != "hi\n" {
		t.Errorf("%+v", got)
	}
	p.awaitPooled("1")
	if now := p.members(); len(now) != 1 || now[0] == was[0] {
		t.Errorf("members: %v, before: %v", now, was)
	}
}

func TestWarmPoolSetting(t *testing.T) {
	p := start(t)
	for _, n := range []float64{-1, 0.5, 65} {
		if err := p.setWarm(n); !fault.Has(fault.From(err), providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID) {
			t.Errorf("warm_pool %v: %v", n, err)
		}
	}
}
