package broker_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/broker"
	"github.com/sandbar-dev/sandbar/broker/internal/testvendor"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/broker/state/sqlite"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// The broker of the crash tests is this test binary, run again.
const (
	envDir  = "SANDBAR_TEST_CRASH_DIR"
	envOp   = "SANDBAR_TEST_CRASH_OP"
	envStop = "SANDBAR_TEST_CRASH_WRITE"
)

// More that a broker is killed at.
const (
	// handOver is a delete with which another sandbox gets the name.
	handOver       = "hand over"
	deleteSnapshot = "delete snapshot"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envDir); dir != "" {
		crashing(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// crashing does one operation and says when it reached the point to be killed
// at; it never gets beyond.
func crashing(dir string) {
	ctx := context.Background()
	store, err := sqlite.Open(ctx, filepath.Join(dir, "state.db"))
	must(err)
	fleet := &testvendor.Fleet{}
	must(fleet.Dial("test", filepath.Join(dir, "v.sock")))
	s, err := broker.New(ctx, store, fleet, broker.Options{Caller: &local})
	must(err)
	_, err = s.GetSandbox(ctx, &brokerv1.GetSandboxRequest{Sandbox: "n"})
	if os.Getenv(envOp) != "create" {
		must(err)
	}
	s.Close(ctx)
	s, err = broker.New(ctx, &stopping{Store: store, at: os.Getenv(envStop)}, fleet, broker.Options{Caller: &local})
	must(err)
	switch os.Getenv(envOp) {
	case "create":
		_, err = s.CreateSandbox(ctx, &brokerv1.CreateSandboxRequest{Name: "n"})
	case "pause":
		_, err = s.PauseSandbox(ctx, &brokerv1.PauseSandboxRequest{Sandbox: "n"})
	case "delete":
		_, err = s.DeleteSandbox(ctx, "n")
	case handOver:
		_, err = s.DeleteSandboxWhile(ctx, &brokerv1.DeleteSandboxRequest{Sandbox: "n", Survivor: "heir", SurvivorName: "n"})
	case deleteSnapshot:
		_, err = s.DeleteSnapshot(ctx, "s")
	}
	panic(fmt.Sprintf("not killed; the operation ended with %v", err))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// stopping is a store that stands still at one write.
type stopping struct {
	state.Store
	at string
}

func (s *stopping) stop(at string) {
	if s.at == at {
		fmt.Fprintln(os.Stderr, "here")
		select {}
	}
}

func (s *stopping) InsertSandboxes(ctx context.Context, r *state.Request, rows ...*state.Sandbox) error {
	s.stop("before insert")
	err := s.Store.InsertSandboxes(ctx, r, rows...)
	s.stop("after insert")
	return err
}

func (s *stopping) UpdateSandbox(ctx context.Context, sb *state.Sandbox) error {
	kind := "answer"
	if sb.Status.Pending != 0 {
		kind = "wish"
	}
	s.stop("before " + kind)
	err := s.Store.UpdateSandbox(ctx, sb)
	s.stop("after " + kind)
	return err
}

func (s *stopping) UpdateSnapshot(ctx context.Context, sn *state.Snapshot) error {
	s.stop("before wish")
	err := s.Store.UpdateSnapshot(ctx, sn)
	s.stop("after wish")
	return err
}

func (s *stopping) RemoveSnapshot(ctx context.Context, id string) error {
	s.stop("before answer")
	err := s.Store.RemoveSnapshot(ctx, id)
	s.stop("after answer")
	return err
}

// TestKilledBrokerComesBackToTheTruth kills a broker with SIGKILL at each step
// of an operation; the next one must know what is, and the vendor must never have
// two of one.
func TestKilledBrokerComesBackToTheTruth(t *testing.T) {
	none := providerv1.SandboxState_SANDBOX_STATE_UNSPECIFIED
	for _, tc := range []struct {
		op, at string
		want   providerv1.SandboxState
		made   int
	}{
		{"create", "before insert", none, 0},
		{"create", "after insert", none, 0},
		{"create", "vendor before", none, 0},
		{"create", "vendor after", running, 1},
		{"create", "before answer", running, 1},
		{"create", "after answer", running, 1},
		{"pause", "before wish", running, 1},
		{"pause", "after wish", running, 1},
		{"pause", "vendor before", running, 1},
		{"pause", "vendor after", paused, 1},
		{"pause", "before answer", paused, 1},
		{"pause", "after answer", paused, 1},
		{"delete", "before wish", running, 1},
		{"delete", "after wish", none, 1},
		{"delete", "vendor before", none, 1},
		{"delete", "vendor after", none, 1},
		{"delete", "before answer", none, 1},
		{"delete", "after answer", none, 1},
	} {
		t.Run(tc.op+"/"+tc.at, func(t *testing.T) {
			t.Parallel()
			dir, vendor := crashSite(t, tc.op)
			killAt(t, dir, vendor, tc.op, tc.at)
			s := reopen(t, dir)
			settled(t, s)
			list, err := s.ListSandboxes(t.Context(), &brokerv1.ListSandboxesRequest{})
			check(t, err)
			switch got := list.GetSandboxes(); {
			case tc.want == none && len(got) != 0:
				t.Errorf("the broker knows %v, want nothing", got)
			case tc.want != none && (len(got) != 1 || got[0].GetState() != tc.want):
				t.Errorf("the broker knows %v, want one that is %v", got, tc.want)
			}
			there := vendor.Sandboxes()
			if len(there) != len(list.GetSandboxes()) || vendor.Made() != tc.made {
				t.Errorf("the vendor made %d (want %d) and has %v", vendor.Made(), tc.made, there)
			}
			// A retry works.
			if _, err := s.DeleteSandbox(t.Context(), "n"); err != nil {
				t.Error(err)
			}
			if _, err := s.CreateSandbox(t.Context(), &brokerv1.CreateSandboxRequest{Name: "n"}); err != nil {
				t.Error(err)
			}
		})
	}
}

// crashSite prepares a vendor and, unless the operation makes it, a sandbox n.
func crashSite(t *testing.T, op string) (string, *testvendor.Vendor) {
	t.Helper()
	dir, err := os.MkdirTemp("", "crash") // short, for the socket
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	vendor := testvendor.New()
	stop, err := testvendor.Serve(vendor, filepath.Join(dir, "v.sock"))
	check(t, err)
	t.Cleanup(stop)
	if op != "create" {
		s := reopen(t, dir)
		_, err := s.CreateSandbox(t.Context(), &brokerv1.CreateSandboxRequest{Name: "n"})
		check(t, err)
		if op == handOver {
			_, err := s.CreateSandbox(t.Context(), &brokerv1.CreateSandboxRequest{Name: "heir"})
			check(t, err)
		}
		if op == deleteSnapshot {
			_, err := s.CreateSnapshot(t.Context(), &brokerv1.CreateSnapshotRequest{Sandbox: "n", Name: "s"})
			check(t, err)
		}
		s.Close(t.Context())
	}
	return dir, vendor
}

func reopen(t *testing.T, dir string) *broker.Service {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "state.db"))
	check(t, err)
	t.Cleanup(func() { check(t, store.Close()) })
	fleet := &testvendor.Fleet{}
	check(t, fleet.Dial("test", filepath.Join(dir, "v.sock")))
	t.Cleanup(fleet.Close)
	s, err := broker.New(t.Context(), store, fleet, broker.Options{Caller: &local, SettleGrace: 50 * time.Millisecond, Retry: 5 * time.Millisecond})
	check(t, err)
	t.Cleanup(func() { s.Close(context.Background()) })
	return s
}

// settled waits until nothing the broker knows is unfinished or not yet verified.
func settled(t *testing.T, s *broker.Service) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		needed, err := s.Needed(ctx)
		check(t, err)
		list, err := s.ListSandboxes(ctx, &brokerv1.ListSandboxesRequest{})
		check(t, err)
		if !needed && !slices.ContainsFunc(list.GetSandboxes(), func(sb *brokerv1.Sandbox) bool {
			return sb.GetState() == providerv1.SandboxState_SANDBOX_STATE_UNKNOWN
		}) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the broker does not settle")
		}
	}
}

// killAt runs an operation in a broker of its own and kills it at a point.
func killAt(t *testing.T, dir string, vendor *testvendor.Vendor, op, at string) {
	t.Helper()
	reached, release := make(chan struct{}), make(chan struct{})
	if side, ok := strings.CutPrefix(at, "vendor "); ok {
		method := map[string]string{"create": "CreateSandbox", "pause": "PauseSandbox", "delete": "DeleteSandbox", handOver: "DeleteSandbox", deleteSnapshot: "DeleteSnapshot"}[op]
		vendor.SetHook(func(_ context.Context, m string, after bool) error {
			if m == method && after == (side == "after") {
				close(reached)
				<-release
				return cut
			}
			return nil
		})
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), envDir+"="+dir, envOp+"="+op, envStop+"="+at)
	stderr, err := cmd.StderrPipe()
	check(t, err)
	check(t, cmd.Start())
	said := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(stderr)
		lines.Scan()
		said <- lines.Text()
	}()
	select {
	case <-reached:
	case line := <-said:
		if line != "here" {
			t.Errorf("the broker said %q", line)
		}
	}
	check(t, cmd.Process.Signal(syscall.SIGKILL))
	_ = cmd.Wait() // it was killed
	vendor.SetHook(nil)
	close(release)
}
