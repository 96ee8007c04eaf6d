package runsc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
)

// gated reads its input only after a file appears, so that a checkpoint finds all of it unread.
const gated = "until test -e /go; do sleep 0.01; done; cat"

// stdinScenario saves a guest with unread input in three streams. args are the checkpoint and whether the guest goes on.
func stdinScenario(ctx context.Context, e *env) error {
	image, keep := e.args[0], e.args[1] == "keep"
	sb, err := e.create(ctx)
	if err != nil {
		return err
	}
	execs := map[string]*runsc.Exec{}
	for _, id := range []string{"open", "closed", "ended"} {
		script := gated
		if id == "ended" {
			script = "true"
		}
		if execs[id], err = sb.Start(ctx, runsc.Command{ID: id, Argv: []string{"sh", "-c", script}, Stdin: true}); err != nil {
			return err
		}
		if _, err := io.WriteString(execs[id].Stdin, "before "); err != nil && id != "ended" {
			return err
		}
	}
	if _, err := execs["ended"].Wait(ctx); err != nil {
		return err
	}
	if err := execs["closed"].Stdin.Close(); err != nil {
		return err
	}
	// A writer that is stuck in a full pipe during the checkpoint must neither lose nor reorder a byte.
	full, err := sb.Start(ctx, runsc.Command{ID: "full", Argv: []string{"sh", "-c", gated}, Stdin: true})
	if err != nil {
		return err
	}
	const size = 1 << 20
	wrote := make(chan int, 1)
	go func() { n, _ := full.Stdin.Write(pattern(size)); wrote <- n }()
	if err := refusedHook(ctx, sb, image); err != nil {
		return err
	}
	if err := sb.Checkpoint(ctx, image, keep, nil); err != nil {
		return err
	}
	if !keep {
		return os.WriteFile(image+"/wrote", fmt.Append(nil, <-wrote), 0o600)
	}
	if err := expect(ctx, sb, "touch /go", ""); err != nil {
		return err
	}
	got, err := io.ReadAll(io.LimitReader(full.Stdout, size))
	if err != nil || !bytes.Equal(got, pattern(size)) || <-wrote != size {
		return fmt.Errorf("stuck writer: %d bytes %w", len(got), err)
	}
	return errors.Join(goOn(execs["open"], execs["closed"]), sb.Close(ctx))
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i >> 8 * 7)
	}
	return b
}

// refusedHook: a checkpoint that is given up leaves nothing behind and the guest running.
func refusedHook(ctx context.Context, sb *runsc.Sandbox, image string) error {
	refuse := errors.New("refused")
	err := sb.Checkpoint(ctx, image, false, func() error { return refuse })
	if !errors.Is(err, refuse) {
		return fmt.Errorf("refused checkpoint: %w", err)
	}
	if _, err := os.Stat(image); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("refused checkpoint left %q: %w", image, err)
	}
	return expect(ctx, sb, "echo alive", "alive")
}

// goOn ends both inputs and expects what was written before and after.
func goOn(open, closed *runsc.Exec) error {
	if _, err := io.WriteString(open.Stdin, "after"); err != nil {
		return err
	}
	if err := open.Stdin.Close(); err != nil {
		return err
	}
	for ex, want := range map[*runsc.Exec]string{open: "before after", closed: "before "} {
		if got, err := io.ReadAll(ex.Stdout); err != nil || string(got) != want {
			return fmt.Errorf("input of %s: %q %w, want %q", ex.ID, got, err, want)
		}
	}
	if _, err := closed.Stdin.Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("write to a closed input: %w", err)
	}
	return nil
}

// stdinAgainScenario goes on with the saved guest.
func stdinAgainScenario(ctx context.Context, e *env) error {
	sb, err := e.restore(ctx, e.args[0])
	if err != nil {
		return err
	}
	execs := map[string]*runsc.Exec{}
	for _, ex := range sb.Execs() {
		execs[ex.ID] = ex
	}
	if exit, err := execs["ended"].Wait(ctx); err != nil || exit.Code != 0 {
		return fmt.Errorf("ended: %+v %w", exit, err)
	}
	b, err := os.ReadFile(e.args[0] + "/wrote")
	if err != nil {
		return err
	}
	var wrote int
	if _, err := fmt.Sscan(string(b), &wrote); err != nil {
		return err
	}
	if err := execs["full"].Stdin.Close(); err != nil {
		return err
	}
	if err := expect(ctx, sb, "touch /go", ""); err != nil {
		return err
	}
	// What was written before the checkpoint, and not a byte more or less, is what the writer was told.
	got, err := io.ReadAll(execs["full"].Stdout)
	if err != nil || !bytes.Equal(got, pattern(1 << 20)[:wrote]) {
		return fmt.Errorf("stuck writer: %d bytes %w, want %d", len(got), err, wrote)
	}
	return errors.Join(goOn(execs["open"], execs["closed"]), sb.Close(ctx))
}

func TestUnreadInput(t *testing.T) {
	work := workDir(t)
	for name, uid := range who(t) {
		t.Run(name+"/running", func(t *testing.T) { inShim(t, work, uid, "stdin", filepath.Join(work, "keep-"+name), "keep") })
		t.Run(name+"/paused", func(t *testing.T) {
			image := filepath.Join(work, "stdin-"+name)
			inShim(t, work, uid, "stdin", image, "end")
			inShim(t, work, uid, "stdin-again", image)
		})
	}
}

// TestScenarioEndsWithItsTest: a test that gives up takes its shim along.
func TestScenarioEndsWithItsTest(t *testing.T) {
	work := workDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	cmd := shimCommand(ctx, t, work, os.Geteuid(), "linger")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	up := make([]byte, 3)
	if _, err := io.ReadFull(out, up); err != nil || strings.TrimSpace(string(up)) != "up" {
		t.Fatalf("%q %v", up, err)
	}
	tree := descendants(cmd.Process.Pid)
	began := time.Now()
	cancel()
	_ = cmd.Wait()
	for _, pid := range tree {
		waitGone(t, pid)
	}
	t.Logf("%d processes ended within %v", len(tree), time.Since(began))
}
