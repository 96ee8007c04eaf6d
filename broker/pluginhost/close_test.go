package pluginhost_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/broker/pluginhost"
	"github.com/sandbar-dev/sandbar/broker/pluginhost/supervisor"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// TestCloseOfFrozenPluginIsBounded: an order to drain and one to end are not
// answered.
func TestCloseOfFrozenPluginIsBounded(t *testing.T) {
	opts := options(t)
	opts.DrainGrace = 200 * time.Millisecond
	h := start(t, opts)
	s := until(t, h, "start", func(s pluginhost.Status) bool { return s.State == supervisor.Ready })
	freeze(t, s.PID)
	if err := h.Close(testContext(t)); err != nil { // not before the context's end
		t.Error(err)
	}
	if exists(s.PID) {
		t.Error("the process lives")
	}
}

func TestCloseNow(t *testing.T) {
	opts := options(t)
	opts.DrainGrace = time.Hour
	h := start(t, opts)
	s := until(t, h, "start", func(s pluginhost.Status) bool { return s.State == supervisor.Ready })
	freeze(t, s.PID)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := h.Close(ctx); err == nil {
		t.Error("closing by force is not closing in good order")
	}
	if took := time.Since(began); took > testBudget {
		t.Errorf("closed after %s", took)
	}
}

func TestCloseDrains(t *testing.T) {
	note := filepath.Join(t.TempDir(), "note")
	h := start(t, options(t, "note-drain="+note))
	if _, err := ask(testContext(t), only(t, h), "facts"); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(note); err != nil {
		t.Errorf("the plugin was not drained: %v", err)
	}
	if _, err := ask(testContext(t), only(t, h), "facts"); !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_DRAINING) {
		t.Errorf("call after close: %v", err)
	}
}

// freeze stops a process, and returns when each of its threads stands still:
// those that run do so until they see the signal.
func freeze(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("threads of process %d: %v %v", pid, tasks, err)
	}
	for _, task := range tasks {
		for {
			stat, err := os.ReadFile(task)
			if err != nil {
				t.Fatal(err)
			}
			if _, fields, ok := strings.Cut(string(stat), ") "); ok && strings.HasPrefix(fields, "T") {
				break
			}
			runtime.Gosched()
		}
	}
}
