package cli_test

import (
	"syscall"
	"testing"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/apitest"
)

func TestInterruptGoesToTheCommand(t *testing.T) {
	b, address := broker(t, nil)
	p := onPipes(t, address, "run", "--", "sh", "-c", "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done")
	p.expect("ready")
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	p.ends(9)
	if n := b.Sandboxes(); n != 0 {
		t.Errorf("%d sandboxes left", n)
	}
}

func TestSecondInterruptKills(t *testing.T) {
	b, address := broker(t, nil)
	p := onPipes(t, address, "run", "--", "sh", "-c", "trap 'echo not yet' INT; echo ready; while :; do sleep 0.05; done")
	p.expect("ready")
	for _, then := range []string{"not yet", ""} {
		if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if then != "" {
			p.expect(then)
		}
	}
	p.ends(128 + int(syscall.SIGKILL))
	if n := b.Sandboxes(); n != 0 {
		t.Errorf("%d sandboxes left", n)
	}
}

// TestInterruptWhileCreating: the sandbox is there already, and its creation is
// not answered.
func TestInterruptWhileCreating(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			b, address := broker(t, func(b *apitest.Broker) { b.HoldCreate = true })
			p := onPipes(t, address, "run", "--", "true")
			if got := <-b.Calls(); got != "CreateSandbox" {
				t.Fatalf("first call %s", got)
			}
			if err := p.cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			p.ends(128 + int(sig))
			if n := b.Sandboxes(); n != 0 {
				t.Errorf("%d sandboxes left", n)
			}
		})
	}
}

// TestInterruptBeforeTheSandboxIsKnown: the first removal finds nothing, and the
// sandbox comes after it.
func TestInterruptBeforeTheSandboxIsKnown(t *testing.T) {
	b, address := broker(t, func(b *apitest.Broker) { b.LateCreate = true })
	p := onPipes(t, address, "run", "--", "true")
	if got := <-b.Calls(); got != "late" {
		t.Fatalf("first call %s", got)
	}
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	p.ends(128 + int(syscall.SIGINT))
	if n := b.Sandboxes(); n != 0 {
		t.Errorf("%d sandboxes left", n)
	}
}

// TestInterruptedBench: a measurement that is interrupted removes what it made,
// also what it was not told of.
func TestInterruptedBench(t *testing.T) {
	b, address := broker(t, func(b *apitest.Broker) { b.HoldCreate = true })
	p := onPipes(t, address, "bench", "--mode", "burst", "-n", "5")
	if got := <-b.Calls(); got != "CreateSandbox" {
		t.Fatalf("first call %s", got)
	}
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	p.ends(128 + int(syscall.SIGINT))
	if n := b.Sandboxes(); n != 0 {
		t.Errorf("%d sandboxes left", n)
	}
}
