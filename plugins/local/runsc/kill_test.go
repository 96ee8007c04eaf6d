package runsc_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lingerScenario runs until it is killed.
func lingerScenario(ctx context.Context, e *env) error {
	sb, err := e.create(ctx)
	if err != nil {
		return err
	}
	if _, err := sb.Start(ctx, sh("sleep 1000 & sleep 1000")); err != nil {
		return err
	}
	fmt.Fprintln(e.out, "up")
	<-ctx.Done()
	return nil
}

// TestKilledShim: nothing of a sandbox is left when its shim is killed.
func TestKilledShim(t *testing.T) {
	work := workDir(t)
	for name, uid := range who(t) {
		t.Run(name, func(t *testing.T) {
			cmd := shimCommand(t.Context(), t, work, uid, "linger")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up\n" {
				t.Fatal(line, err)
			}
			tree := descendants(cmd.Process.Pid)
			if len(tree) < 4 {
				t.Fatalf("only %v below the launcher", tree)
			}
			if err := syscall.Kill(tree[0], syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			for _, pid := range tree {
				waitGone(t, pid)
			}
			if entries, _ := os.ReadDir(cmd.Args[3]); len(entries) != 0 {
				t.Errorf("%d entries are left in the private directory", len(entries))
			}
		})
	}
}

// descendants returns all processes below pid, parents first.
func descendants(pid int) []int {
	var all []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		for _, word := range strings.Fields(string(b)) {
			var child int
			if _, err := fmt.Sscan(word, &child); err == nil {
				all = append(append(all, child), descendants(child)...)
			}
		}
	}
	return all
}

func waitGone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(b), ") Z ") {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("process %d is still there: %s", pid, b)
		case <-tick.C:
		}
	}
}
