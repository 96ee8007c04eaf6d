package local_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/sandbar-dev/sandbar/plugins/local/record"
	"github.com/sandbar-dev/sandbar/plugins/local/shim"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// childArg makes the test binary a plugin that is about to be killed.
const childArg = "warm-child"

func init() {
	if len(os.Args) == 4 && os.Args[1] == childArg {
		if err := warmChild(os.Args[2], os.Args[3]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		select {}
	}
}

// childID is the sandbox that a child makes of its member.
const childID = "sbx_child"

// warmChild does what a plugin does up to a moment, and says so.
func warmChild(state, moment string) error {
	ctx := context.Background()
	store, err := record.Open(ctx, state)
	if err != nil {
		return err
	}
	if err := store.MakeMember("m1"); err != nil {
		return err
	}
	lock, _, err := shim.Lock(store.MemberDir("m1"))
	if err != nil {
		return err
	}
	member, err := shim.SpawnMember(ctx, binary, store.MemberDir("m1"), lock, &shim.Boot{
		Root: shim.Root{Host: true}, RetainBytes: 1 << 20,
		Member: &shim.MemberSpec{MemoryBytes: 1 << 30, DiskBytes: 1 << 30, Pids: 1024},
	})
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(member) // the collector would close what says that the plugin lives
	rec := &record.Sandbox{
		Sandbox: &providerv1.Sandbox{
			Identity:  &providerv1.Identity{SandboxId: childID, Owner: owner},
			Operation: operation(), State: providerv1.SandboxState_SANDBOX_STATE_CREATING, Handle: &providerv1.Handle{Version: 1},
		},
		Spec: &providerv1.SandboxSpec{Env: map[string]string{"COLOUR": "red"}},
	}
	switch moment {
	case "pooled":
	case "recorded":
		err = record.WriteSandbox(store.MemberDir("m1"), rec)
	case "renamed":
		err = store.Adopt("m1", rec)
	}
	fmt.Println("there")
	return err
}

// killAt lets a plugin come to a moment and kills it.
func killAt(t *testing.T, state, moment string) {
	t.Helper()
	child := exec.Command("/proc/self/exe", childArg, state, moment)
	child.Env = append(os.Environ(), binaryFlag+"="+binary)
	child.Stderr = logWriter{t}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var word string
	_, err = fmt.Fscan(out, &word)
	if err != nil || word != "there" {
		t.Errorf("the plugin says %q: %v", word, err)
	}
	_ = child.Process.Signal(syscall.SIGKILL)
	var exit *exec.ExitError
	if err := child.Wait(); !errors.As(err, &exit) {
		t.Errorf("the plugin ended with %v", err)
	}
}

// TestAKilledPluginLeavesASandboxOrNothing: whenever it dies while it hands over
// a member.
func TestAKilledPluginLeavesASandboxOrNothing(t *testing.T) {
	for _, moment := range []string{"pooled", "recorded"} {
		t.Run(moment, func(t *testing.T) {
			p := start(t)
			p.stop()
			killAt(t, p.state, moment)
			eventually(t, "nothing is left", func() bool { return len(p.members())+len(processesOf(t, p.state)) == 0 })
			p.run()
			if all := p.list(); len(all) != 0 {
				t.Errorf("sandboxes: %v", all)
			}
		})
	}
	t.Run("renamed", func(t *testing.T) {
		p := start(t)
		p.stop()
		killAt(t, p.state, "renamed")
		p.run()
		sb := &providerv1.SandboxRef{SandboxId: childID, Handle: &providerv1.Handle{Version: 1}}
		t.Cleanup(func() {
			if t.Failed() {
				got, err := p.get(sb)
				log, _ := os.ReadFile(filepath.Join(p.state, "sandboxes", childID, "shim.log"))
				t.Logf("the sandbox is %v, %v; its shim says %s", got, err, log)
			}
		})
		eventually(t, "the sandbox runs", func() bool {
			got, err := p.get(sb)
			return err == nil && got.GetState() == providerv1.SandboxState_SANDBOX_STATE_RUNNING
		})
		if got := p.sh(sb, "echo $COLOUR"); got.stdout != "red\n" {
			t.Errorf("%+v", got)
		}
		if n := len(p.list()); n != 1 || len(p.members()) != 0 {
			t.Errorf("%d sandboxes, members %v", n, p.members())
		}
	})
}
