package exactlyonce_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// operation is one of the calls that make or end sandboxes.
type operation struct {
	name string
	// method is what the provider is asked.
	method string
	// prepare makes what the call needs, on a broker that is well; the ids stay.
	prepare func(*world) []string
	// call calls, with an idempotency key, and returns what was made.
	call func(context.Context, *world) ([]string, error)
	// makes is how many sandboxes the call makes; -1: it ends the prepared one.
	makes int
	// steps are the writes of its journal.
	steps []string
}

var making = []string{"before insert 1", "after insert 1", "before update 1", "after update 1"}

func prepareOne(w *world) []string {
	res, err := w.api.CreateSandbox(w.t.Context(), connect.NewRequest(&brokerv1.CreateSandboxRequest{Name: "parent"}))
	if err != nil {
		w.t.Fatal(err)
	}
	return []string{res.Msg.GetSandbox().GetSandboxId()}
}

var operations = []operation{
	{
		name: "create", method: "CreateSandbox", makes: 1, steps: making,
		prepare: func(*world) []string { return nil },
		call: func(ctx context.Context, w *world) ([]string, error) {
			res, err := w.api.CreateSandbox(ctx, connect.NewRequest(&brokerv1.CreateSandboxRequest{Name: "n", IdempotencyKey: "k"}))
			if err != nil {
				return nil, err
			}
			return []string{res.Msg.GetSandbox().GetSandboxId()}, nil
		},
	},
	{
		name: "fork", method: "ForkSandbox", makes: 2, steps: append(making, "before update 2", "after update 2"),
		prepare: prepareOne,
		call: func(ctx context.Context, w *world) ([]string, error) {
			res, err := w.api.ForkSandbox(ctx, connect.NewRequest(&brokerv1.ForkSandboxRequest{Sandbox: "parent", Count: 2, IdempotencyKey: "k"}))
			if err != nil {
				return nil, err
			}
			return ids(res.Msg.GetSandboxes()), nil
		},
	},
	{
		name: "restore", method: "RestoreSnapshot", makes: 1, steps: making,
		prepare: func(w *world) []string {
			parent := prepareOne(w)
			_, err := w.api.CreateSnapshot(w.t.Context(), connect.NewRequest(&brokerv1.CreateSnapshotRequest{Sandbox: "parent", Name: "s"}))
			if err != nil {
				w.t.Fatal(err)
			}
			return parent
		},
		call: func(ctx context.Context, w *world) ([]string, error) {
			res, err := w.api.RestoreSnapshot(ctx, connect.NewRequest(&brokerv1.RestoreSnapshotRequest{Snapshot: "s", Name: "n", IdempotencyKey: "k"}))
			if err != nil {
				return nil, err
			}
			return []string{res.Msg.GetSandbox().GetSandboxId()}, nil
		},
	},
	{
		name: "delete", method: "DeleteSandbox", makes: -1,
		steps:   []string{"before update 1", "after update 1", "before update 2", "after update 2"},
		prepare: prepareOne,
		call: func(ctx context.Context, w *world) ([]string, error) {
			_, err := w.api.DeleteSandbox(ctx, connect.NewRequest(&brokerv1.DeleteSandboxRequest{Sandbox: "parent"}))
			return nil, err
		},
	},
}

// trouble is what happens to a vendor's calls. In faults, M stands for the method
// of the operation.
type trouble struct {
	name   string
	faults []string
	lag    string
	// slow: it takes a minute.
	slow bool
}

// Five attempts are one call of the broker, so that six faults are more than it
// tries to get over by itself.
var troubles = []trouble{
	{name: "none"},
	{name: "request lost", faults: []string{"M:lost_request:1"}},
	{name: "requests lost", faults: []string{"M:lost_request:6"}},
	{name: "answer lost", faults: []string{"M:lost_answer:1"}},
	{name: "answers lost", faults: []string{"M:lost_answer:6"}},
	{name: "late", faults: []string{"M:late:1"}},
	{name: "late again and again", faults: []string{"M:late:6"}},
	{name: "slower than the caller waits", faults: []string{"M:slow:1"}},
	{name: "unavailable", faults: []string{"M:unavailable:1"}},
	{name: "unavailable for long", faults: []string{"M:unavailable:6"}},
	{name: "rate limited", faults: []string{"M:rate_limited:2"}},
	{name: "no room", faults: []string{"M:capacity:1"}},
	{name: "panic", faults: []string{"M:panic:2"}},
	{name: "crash before", faults: []string{"M:crash:1"}},
	{name: "crash after", faults: []string{"M:crash_after:1"}},
	{name: "frozen before", faults: []string{"M:freeze:1"}},
	{name: "frozen after", faults: []string{"M:freeze_after:1"}},
	{name: "listing lags", faults: []string{"M:lost_answer:6"}, lag: "2s"},
	{name: "get fails too", faults: []string{"M:lost_answer:6", "GetSandbox:unavailable:7"}},
	{name: "get fails, nothing made", faults: []string{"M:lost_request:6", "GetSandbox:lost_request:7"}},
	{name: "slower than the deadline, not made", faults: []string{"M:hang:1"}, slow: true},
	{name: "slower than the deadline", faults: []string{"M:hang_after:1"}, slow: true},
}

func (tr trouble) settings(method string) map[string]any {
	out := map[string]any{"faults": []string{}}
	for _, f := range tr.faults {
		out["faults"] = append(out["faults"].([]string), strings.Replace(f, "M:", method+":", 1))
	}
	if tr.lag != "" {
		out["listing_lag"] = tr.lag
	}
	return out
}

// callerWait is shorter than a slow call, and longer than all others.
const callerWait = 1500 * time.Millisecond

// TestTroubledVendor: the broker lives, the vendor is in trouble.
func TestTroubledVendor(t *testing.T) {
	for _, op := range operations {
		for _, tr := range troubles {
			if tr.slow && !*full {
				continue
			}
			t.Run(op.name+"/"+tr.name, func(t *testing.T) {
				t.Parallel()
				c := newCell(t, op, vendors{"fake": tr.settings(op.method)})
				c.start("")
				c.prepared = op.prepare(c.world)
				c.watched(func() {
					c.attempt(callerWait)
					c.settles()
				})
				c.repeats()
				c.ends()
			})
		}
	}
}

// TestKilledAtEveryStep: the broker is killed at each write of its journal, with
// the vendor well and in several kinds of trouble.
func TestKilledAtEveryStep(t *testing.T) {
	names := []string{"none", "answers lost"}
	if *full {
		names = append(names, "requests lost", "late again and again", "listing lags", "get fails too", "get fails, nothing made")
	}
	for _, op := range operations {
		for _, step := range op.steps {
			for _, tr := range troubles {
				if !slices.Contains(names, tr.name) {
					continue
				}
				t.Run(op.name+"/"+step+"/"+tr.name, func(t *testing.T) {
					t.Parallel()
					c := newCell(t, op, vendors{"fake": tr.settings(op.method)})
					c.start("")
					c.prepared = op.prepare(c.world)
					c.stop()
					c.start(step)
					c.settled()
					c.arm()
					c.watched(func() {
						c.killedDuring(func() { c.says("here") })
						c.start("")
						c.settles()
					})
					c.repeats()
					c.ends()
				})
			}
		}
	}
}

// TestKilledWhileTheVendorWorks: the broker is killed while its call is at the
// vendor, before or after the effect.
func TestKilledWhileTheVendorWorks(t *testing.T) {
	for _, op := range operations {
		for _, kind := range []string{"hang", "hang_after", "slow", "late", "freeze", "freeze_after", "crash", "crash_after"} {
			t.Run(op.name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				c := newCell(t, op, vendors{"fake": trouble{faults: []string{"M:" + kind + ":1"}}.settings(op.method)})
				c.start("")
				c.prepared = op.prepare(c.world)
				c.watched(func() {
					c.killedDuring(func() {
						c.eventually("the call to reach the vendor", func() (bool, string) { return c.fired("fake") > 0, "" })
					})
					c.start("")
					c.settles()
				})
				c.repeats()
				c.ends()
			})
		}
	}
}

// TestTwoVendors: the first vendor is in trouble; the second is asked only if the
// first made nothing.
func TestTwoVendors(t *testing.T) {
	op := operations[0]
	for _, tr := range troubles {
		if tr.slow && !*full {
			continue
		}
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/killed=%v", tr.name, killed), func(t *testing.T) {
				t.Parallel()
				c := newCell(t, op, vendors{"east": tr.settings(op.method), "west": {"latency": "1ms"}})
				c.start("before update 1")
				c.settled()
				c.watched(func() {
					if killed {
						c.arm()
						c.killedDuring(func() { c.says("here") })
						c.start("")
					} else {
						c.attempt(callerWait)
					}
					c.settles()
				})
				c.repeats()
				c.ends()
			})
		}
	}
}

// TestDeleteOfWhatIsLate: a create whose answer was lost is still on its way when
// its sandbox is deleted.
func TestDeleteOfWhatIsLate(t *testing.T) {
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed=%v", kill), func(t *testing.T) {
			t.Parallel()
			c := newCell(t, operations[0], vendors{"fake": {"faults": []string{"CreateSandbox:late:6"}}})
			c.start("")
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			go func() { _, _ = c.op.call(ctx, c.world) }() // its end is not what is tested
			c.eventually("the lost call", func() (bool, string) { return c.fired("fake") > 0, "" })
			c.eventually("the row", func() (bool, string) {
				list, err := c.list()
				return err == nil && len(list) == 1, fmt.Sprint(err)
			})
			list, err := c.list()
			if err != nil {
				t.Fatal(err)
			}
			if kill {
				c.kill()
				c.start("")
			}
			for _, sb := range list {
				c.remove(sb.GetSandboxId())
			}
			c.past(began.Add(3 * time.Second)) // later than everything that is late
			if all := c.settled(); len(all) != 0 {
				t.Errorf("the broker knows %v", all)
			}
			c.ends()
		})
	}
}
