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

// operation is one of the calls that make or end sandboxes and snapshots.
type operation struct {
	name string
	// method is what the provider is asked.
	method string
	// prepare makes what the call needs, on a broker that is well; the ids stay.
	prepare func(*world) []string
	// call calls, with an idempotency key, and returns what was made.
	call func(context.Context, *world) ([]string, error)
	// makes is how many objects the call makes; -1: it ends the first prepared one.
	makes int
	// writes are those of its journal at a vendor that is well, and denied those at
	// one that refuses.
	writes, denied []string
	// kinds, if it is not nil, are the only kinds of trouble in which a broker comes to
	// all of its writes.
	kinds []string
	// rare are cells that only a full run has.
	rare rarity
}

// rarity says which cells of an operation only a full run has.
type rarity struct {
	// but, if it is not nil, are the only steps at which every run kills the broker,
	// with the vendor well or refusing.
	but []string
	// troubled is true if that is so of all cells in which the vendor is in trouble.
	troubled bool
}

// steps are the moments before and after each of some writes.
func steps(writes ...string) []string {
	var out []string
	for _, w := range writes {
		out = append(out, "before "+w, "after "+w)
	}
	return out
}

var making = []string{"insert 1", "update 1"}

func prepareOne(w *world) []string {
	res, err := w.api.CreateSandbox(w.t.Context(), connect.NewRequest(&brokerv1.CreateSandboxRequest{Name: "parent"}))
	if err != nil {
		w.t.Fatal(err)
	}
	return []string{res.Msg.GetSandbox().GetSandboxId()}
}

// prepareSnapshot makes the snapshot s, and a sandbox.
func prepareSnapshot(w *world) []string {
	parent := prepareOne(w)
	res, err := w.api.CreateSnapshot(w.t.Context(), connect.NewRequest(&brokerv1.CreateSnapshotRequest{Sandbox: "parent", Name: "s"}))
	if err != nil {
		w.t.Fatal(err)
	}
	return append([]string{res.Msg.GetSnapshot().GetSnapshotId()}, parent...)
}

var operations = []operation{
	{
		name: "create", method: "CreateSandbox", makes: 1, writes: making, denied: []string{"insert 1", "remove 1"},
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
		name: "fork", method: "ForkSandbox", makes: 2, writes: append(making, "update 2"), denied: []string{"insert 1", "remove 1", "remove 2"},
		rare:    rarity{but: append(steps(append(making, "update 2")...), "after remove 1")},
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
		name: "restore", method: "RestoreSnapshot", makes: 1, writes: making, denied: []string{"insert 1", "remove 1"},
		rare:    rarity{but: steps(making...)},
		prepare: prepareSnapshot,
		call: func(ctx context.Context, w *world) ([]string, error) {
			res, err := w.api.RestoreSnapshot(ctx, connect.NewRequest(&brokerv1.RestoreSnapshotRequest{Snapshot: "s", Name: "n", IdempotencyKey: "k"}))
			if err != nil {
				return nil, err
			}
			return []string{res.Msg.GetSandbox().GetSandboxId()}, nil
		},
	},
	{
		name: "delete", method: "DeleteSandbox", makes: -1, writes: []string{"update 1", "update 2"},
		prepare: prepareOne,
		call: func(ctx context.Context, w *world) ([]string, error) {
			_, err := w.api.DeleteSandbox(ctx, connect.NewRequest(&brokerv1.DeleteSandboxRequest{Sandbox: "parent"}))
			return nil, err
		},
	},
	{
		name: snapshot, method: "CreateSnapshot", makes: 1,
		writes: []string{"insert-snapshot 1", "update-snapshot 1"}, denied: []string{"insert-snapshot 1", "remove-snapshot 1"},
		rare:    rarity{but: []string{"after insert-snapshot 1", "before update-snapshot 1"}, troubled: true},
		kinds:   []string{"answers lost"},
		prepare: prepareOne,
		call: func(ctx context.Context, w *world) ([]string, error) {
			res, err := w.api.CreateSnapshot(ctx, connect.NewRequest(&brokerv1.CreateSnapshotRequest{Sandbox: "parent", Name: "s", IdempotencyKey: "k"}))
			if err != nil {
				return nil, err
			}
			return []string{res.Msg.GetSnapshot().GetSnapshotId()}, nil
		},
	},
	{
		name: "delete snapshot", method: "DeleteSnapshot", makes: -1, writes: []string{"update-snapshot 1", "remove-snapshot 1"},
		rare:    rarity{but: []string{"after update-snapshot 1", "before remove-snapshot 1"}, troubled: true},
		kinds:   []string{"answers lost", "requests lost"},
		prepare: prepareSnapshot,
		call: func(ctx context.Context, w *world) ([]string, error) {
			_, err := w.api.DeleteSnapshot(ctx, connect.NewRequest(&brokerv1.DeleteSnapshotRequest{Snapshot: "s"}))
			return nil, err
		},
	},
}

// snapshot is the operation of which only a listing tells what became.
const snapshot = "snapshot"

// trouble is what happens to a vendor's calls. In faults, M stands for the method
// of the operation.
type trouble struct {
	name   string
	faults []string
	lag    string
	// rare: only a full run has it, as it takes a minute or makes little difference.
	rare bool
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
	{name: refused, faults: []string{"M:quota:1"}, rare: true},
	{name: "panic", faults: []string{"M:panic:2"}},
	{name: "crash before", faults: []string{"M:crash:1"}},
	{name: "crash after", faults: []string{"M:crash_after:1"}},
	{name: "frozen before", faults: []string{"M:freeze:1"}},
	{name: "frozen after", faults: []string{"M:freeze_after:1"}},
	{name: "listing lags", faults: []string{"M:lost_answer:6"}, lag: "2s"},
	{name: "get fails too", faults: []string{"M:lost_answer:6", "GetSandbox:unavailable:7"}},
	{name: "get fails, nothing made", faults: []string{"M:lost_request:6", "GetSandbox:lost_request:7"}},
	{name: "slower than the deadline, not made", faults: []string{"M:hang:1"}, rare: true},
	{name: "slower than the deadline", faults: []string{"M:hang_after:1"}, rare: true},
}

// refused is the trouble of a vendor that makes nothing and says so for good.
const refused = "refused"

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
			if (tr.rare || op.rare.troubled) && !*full {
				continue
			}
			t.Run(op.name+"/"+tr.name, func(t *testing.T) {
				t.Parallel()
				c := newCell(t, op, vendors{"fake": tr.settings(op.method)})
				c.start("")
				c.prepared = op.prepare(c.world)
				c.settled()
				c.arm()
				c.watched(func() {
					c.attempt(callerWait)
					c.wrote(tr)
					c.settles()
				})
				c.repeats()
				c.ends()
			})
		}
	}
}

// kill is one place of a journal at which the broker is killed.
type kill struct {
	step, trouble string
	rare          bool
}

// kills are those of an operation: at each write of its journal, with the vendor
// well and in several kinds of trouble, and at those writes that only a refusal
// brings about.
func (op operation) kills() []kill {
	often := func(step string) bool { return op.rare.but == nil || slices.Contains(op.rare.but, step) }
	kinds := op.kinds
	if kinds == nil {
		kinds = []string{"answers lost", "requests lost", "late again and again", "listing lags", "get fails too", "get fails, nothing made"}
	}
	var out []kill
	for _, step := range steps(op.writes...) {
		out = append(out, kill{step, "none", !often(step)})
		for _, name := range kinds {
			out = append(out, kill{step, name, name != "answers lost" || op.rare.troubled})
		}
	}
	for _, step := range steps(op.denied...) {
		if !slices.Contains(steps(op.writes...), step) {
			out = append(out, kill{step, refused, !often(step)})
		}
	}
	return out
}

// TestKilledAtEveryStep: the broker is killed at each write of its journal.
func TestKilledAtEveryStep(t *testing.T) {
	for _, op := range operations {
		for _, k := range op.kills() {
			if k.rare && !*full {
				continue
			}
			tr := troubles[slices.IndexFunc(troubles, func(tr trouble) bool { return tr.name == k.trouble })]
			t.Run(op.name+"/"+k.step+"/"+k.trouble, func(t *testing.T) {
				t.Parallel()
				c := newCell(t, op, vendors{"fake": tr.settings(op.method)})
				c.start("")
				c.prepared = op.prepare(c.world)
				c.stop()
				c.start(k.step)
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

// TestKilledWhileTheVendorWorks: the broker is killed while its call is at the
// vendor, before or after the effect.
func TestKilledWhileTheVendorWorks(t *testing.T) {
	for _, op := range operations {
		for _, kind := range []string{"hang", "hang_after", "slow", "late", "freeze", "freeze_after", "crash", "crash_after"} {
			if op.rare.troubled && !*full {
				continue
			}
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
		if tr.rare && !*full {
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
