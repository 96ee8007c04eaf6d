package storetest

import (
	"encoding/hex"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// telling makes a sandbox tell what is told by its reason.
func telling(reason string, at time.Time) func(*state.Sandbox) {
	return func(sb *state.Sandbox) {
		sb.Events = append(sb.Events, &brokerv1.Event{At: timestamppb.New(at), SandboxId: sb.ID(), Reason: reason})
	}
}

// reader reads events from a cursor on.
type reader struct {
	t      *testing.T
	s      state.Store
	cursor string
}

// from returns a reader at the oldest event, or behind the newest.
func from(t *testing.T, s state.Store, newest bool) *reader {
	t.Helper()
	old, last, err := s.EventBounds(t.Context())
	check(t, err)
	if newest {
		old = last
	}
	return &reader{t, s, old}
}

// next returns the reasons of all events that follow, read by pages of two.
func (r *reader) next() []string {
	r.t.Helper()
	var out []string
	for {
		events, cursor, err := r.s.Events(r.t.Context(), r.cursor, 2)
		check(r.t, err)
		r.cursor = cursor
		if len(events) == 0 {
			return out
		}
		if last := events[len(events)-1].GetCursor(); last != cursor {
			r.t.Errorf("the cursor to go on with is %q, that of the last event %q", cursor, last)
		}
		for _, e := range events {
			out = append(out, e.GetReason())
		}
	}
}

func (r *reader) expect(want ...string) {
	r.t.Helper()
	if diff := cmp.Diff(want, r.next()); diff != "" {
		r.t.Errorf("-want +got:\n%s", diff)
	}
}

// events: they are stored with what they tell of, or not at all, and are told in
// order, from wherever a reader stands.
func events(t *testing.T, s state.Store) {
	all := from(t, s, false)
	all.expect()
	first := sandbox(1, telling("made", start), func(sb *state.Sandbox) { sb.Body.Name = "n" })
	check(t, s.InsertSandboxes(t.Context(), nil, first, sandbox(2, telling("made too", start))))
	if first.Events != nil {
		t.Error("what was told would be told again")
	}
	late := from(t, s, true)
	all.expect("made", "made too")

	// What is refused was never told.
	want(t, s.InsertSandboxes(t.Context(), nil, sandbox(3, telling("refused", start), func(sb *state.Sandbox) { sb.Body.Name = "n" })), state.ErrNameTaken)
	old := first.Clone()
	old.Version, old.Events = 7, nil
	telling("refused", start)(old)
	want(t, s.UpdateSandbox(t.Context(), old), state.ErrConflict)

	telling("changed", start)(first)
	telling("twice", start)(first)
	check(t, s.UpdateSandbox(t.Context(), first))
	if first.Version != 2 || first.Events != nil {
		t.Errorf("version %d, events %v", first.Version, first.Events)
	}
	check(t, s.UpdateSandbox(t.Context(), first)) // which tells nothing
	telling("removed", start)(first)
	check(t, s.RemoveSandbox(t.Context(), first))
	want(t, notThere(s.Sandbox(t.Context(), first.ID())), state.ErrNotFound)
	all.expect("changed", "twice", "removed")
	all.expect()
	late.expect("changed", "twice", "removed")

	got, _, err := s.Events(t.Context(), from(t, s, false).cursor, 1)
	check(t, err)
	told := &brokerv1.Event{At: timestamppb.New(start), SandboxId: "sbx_001", Reason: "made"}
	if diff := cmp.Diff([]*brokerv1.Event{told}, got, protocmp.Transform(), protocmp.IgnoreFields(told, "cursor")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func notThere(_ *state.Sandbox, err error) error { return err }

// remove drops sandboxes that have nothing to tell.
func remove(t *testing.T, s state.Store, ids ...string) {
	t.Helper()
	for _, id := range ids {
		check(t, s.RemoveSandbox(t.Context(), &state.Sandbox{Body: &brokerv1.Sandbox{SandboxId: id}}))
	}
}

// eventCursors: a cursor that leads nowhere is told from one that is none.
func eventCursors(t *testing.T, s state.Store) {
	check(t, s.InsertSandboxes(t.Context(), nil, sandbox(1, telling("made", start))))
	good := from(t, s, true).cursor
	raw, err := hex.DecodeString(good)
	check(t, err)
	other, ahead := slices.Clone(raw), slices.Clone(raw)
	other[0]++            // of another database
	ahead[len(ahead)-1]++ // this database has not come so far, as after it was put back
	for cursor, target := range map[string]error{
		"": state.ErrBadToken, "x": state.ErrBadToken, good + "AA": state.ErrBadToken,
		hex.EncodeToString(other): state.ErrEventsGone,
		hex.EncodeToString(ahead): state.ErrEventsGone,
		good:                      nil,
	} {
		_, _, err := s.Events(t.Context(), cursor, 1)
		want(t, err, target)
	}
}

// purgeEvents: what is dropped is the oldest, and who has not read it is told.
func purgeEvents(t *testing.T, s state.Store) {
	slow, half := from(t, s, false), from(t, s, false)
	for n := range 6 {
		if n == 3 {
			half = from(t, s, true)
		}
		check(t, s.InsertSandboxes(t.Context(), nil, sandbox(n, telling(strconv.Itoa(n), start.Add(time.Duration(n)*time.Hour)))))
	}
	purge := func(cutoff time.Duration, keep int, left ...string) {
		t.Helper()
		check(t, s.PurgeEvents(t.Context(), start.Add(cutoff), keep))
		from(t, s, false).expect(left...)
	}
	purge(0, 100, "0", "1", "2", "3", "4", "5")
	if _, _, err := s.Events(t.Context(), slow.cursor, 1); err != nil {
		t.Errorf("nothing is missing yet: %v", err)
	}
	purge(2*time.Hour, 100, "2", "3", "4", "5")
	purge(0, 3, "3", "4", "5")
	purge(0, 3, "3", "4", "5")
	_, _, err := s.Events(t.Context(), slow.cursor, 1)
	want(t, err, state.ErrEventsGone)
	half.expect("3", "4", "5") // it had read all that was dropped
	purge(100*time.Hour, 3)
	half.expect()
	from(t, s, true).expect()
	check(t, s.InsertSandboxes(t.Context(), nil, sandbox(9, telling("after", start.Add(200*time.Hour)))))
	half.expect("after")
}

// eventsTogether: whoever reads while many write misses nothing and sees nothing
// twice, whatever order the writers end in.
func eventsTogether(t *testing.T, s state.Store) {
	const writers, each = 8, 10
	r := from(t, s, false)
	done := make(chan error, 1)
	go func() {
		var errs []error
		errs = append(errs, together(writers, func(i int) error {
			for n := range each {
				id := 100 + i*each + n
				if err := s.InsertSandboxes(t.Context(), nil, sandbox(id, telling(strconv.Itoa(id), start))); err != nil {
					return err
				}
			}
			return nil
		})...)
		for _, err := range errs {
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	seen := map[string]int{}
	read := func() {
		for _, reason := range r.next() {
			seen[reason]++
		}
	}
	for ended := false; !ended; {
		select {
		case err := <-done:
			check(t, err)
			ended = true
		default:
		}
		read()
	}
	limit := time.Now().Add(time.Minute) // another database on the server may hold a transaction open
	for len(seen) < writers*each && time.Now().Before(limit) {
		read()
	}
	for i := range writers * each {
		if n := seen[strconv.Itoa(100+i)]; n != 1 {
			t.Errorf("event %d was seen %d times", 100+i, n)
		}
	}
}
