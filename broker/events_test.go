package broker_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/broker"
	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// reading is a client of WatchEvents that keeps what it was sent.
type reading struct {
	mu     sync.Mutex
	all    []*brokerv1.WatchEventsResponse
	more   chan struct{} // has room for one
	refuse error
}

func (r *reading) Send(m *brokerv1.WatchEventsResponse) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, m)
	select {
	case r.more <- struct{}{}:
	default:
	}
	return r.refuse
}

// told says what came, each event in a few words, and the last cursor.
func (r *reading) told() (out []string, cursor string, gap bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.all {
		cursor, gap = m.GetCursor(), gap || m.GetGap() != nil
		for _, e := range m.GetEvents() {
			cut := strings.TrimPrefix
			out = append(out, cut(e.GetType().String(), "EVENT_TYPE_SANDBOX_")+" "+
				cut(e.GetPreviousState().String(), "SANDBOX_STATE_")+">"+cut(e.GetState().String(), "SANDBOX_STATE_"))
		}
	}
	return out, cursor, gap
}

// now reads until all that has happened was sent.
func (b *bench) now(t *testing.T, req *brokerv1.WatchEventsRequest) (events []string, cursor string, gap bool) {
	t.Helper()
	r := &reading{more: make(chan struct{}, 1)}
	req.UntilNow = true
	check(t, b.WatchEvents(t.Context(), req, r))
	return r.told()
}

// TestEventsOfACreation: that a sandbox was never made is told, with the reason,
// and one of which it is not known is not told to be made.
func TestEventsOfACreation(t *testing.T) {
	b := newBench(t, broker.Options{})
	_, start, _ := b.now(t, &brokerv1.WatchEventsRequest{})
	b.vendor.SetHook(once("CreateSandbox", false, fault.New(providerv1.ErrorReason_ERROR_REASON_IMAGE_NOT_FOUND, "no such image").GRPCStatus().Err()))
	_, err := b.CreateSandbox(t.Context(), &brokerv1.CreateSandboxRequest{})
	want(t, err, providerv1.ErrorReason_ERROR_REASON_IMAGE_NOT_FOUND)
	got, next, gap := b.now(t, &brokerv1.WatchEventsRequest{Cursor: start})
	if !slices.Equal(got, []string{"CREATING UNSPECIFIED>CREATING", "NOT_MADE CREATING>UNSPECIFIED"}) || gap {
		t.Errorf("a refused creation is told as %q, gap %t", got, gap)
	}
	b.create(t, &brokerv1.CreateSandboxRequest{Name: "n"})
	got, _, _ = b.now(t, &brokerv1.WatchEventsRequest{Cursor: next, Provider: "test"})
	if !slices.Equal(got, []string{"CREATING UNSPECIFIED>CREATING", "STATE_CHANGED CREATING>RUNNING"}) {
		t.Errorf("a creation is told as %q", got)
	}
	if got, cursor, _ := b.now(t, &brokerv1.WatchEventsRequest{Cursor: next, Provider: "another"}); len(got) > 0 || cursor == next {
		t.Errorf("of another provider %q is told, and the cursor is %q", got, cursor)
	}
}

// TestWatchingIsPrompt: a reader learns of a change when it happens, and leaves
// when the broker stops.
func TestWatchingIsPrompt(t *testing.T) {
	b := newBench(t, broker.Options{})
	r := &reading{more: make(chan struct{}, 1)}
	left := make(chan error, 1)
	go func() { left <- b.WatchEvents(context.Background(), &brokerv1.WatchEventsRequest{}, r) }()
	patient, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	await := func(n int) {
		t.Helper()
		for {
			if got, _, _ := r.told(); len(got) >= n {
				return
			}
			select {
			case <-r.more:
			case <-patient.Done():
				got, _, _ := r.told()
				t.Fatalf("told were %q, want %d", got, n)
			}
		}
	}
	<-r.more // where it begins
	b.create(t, &brokerv1.CreateSandboxRequest{})
	await(2)
	b.EndWatches()
	select {
	case err := <-left:
		want(t, err, providerv1.ErrorReason_ERROR_REASON_DRAINING)
	case <-patient.Done():
		t.Error("the reader keeps the broker from stopping")
	}
}

func TestWatchersThatAreWrong(t *testing.T) {
	b := newBench(t, broker.Options{})
	for _, req := range []*brokerv1.WatchEventsRequest{{Cursor: "x"}, {Cursor: "x", FromOldest: true}} {
		f := want(t, b.WatchEvents(t.Context(), req, &reading{}), providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
		if !strings.Contains(f.Message, "cursor") {
			t.Errorf("%v is refused with %q", req, f.Message)
		}
	}
	gone := errors.New("gone")
	want(t, b.WatchEvents(t.Context(), &brokerv1.WatchEventsRequest{}, &reading{refuse: gone}), providerv1.ErrorReason_ERROR_REASON_CANCELED)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := b.WatchEvents(ctx, &brokerv1.WatchEventsRequest{}, &reading{}); err == nil {
		t.Error("a reader that left is told that all is well")
	}
}

// TestAGapIsTold: a cursor from another database, which looks just like one from a
// past that was dropped, is answered with what there is and the word that
// something is missing.
func TestAGapIsTold(t *testing.T) {
	other := newBench(t, broker.Options{})
	other.create(t, &brokerv1.CreateSandboxRequest{})
	_, theirs, _ := other.now(t, &brokerv1.WatchEventsRequest{FromOldest: true})
	b := newBench(t, broker.Options{})
	b.create(t, &brokerv1.CreateSandboxRequest{})
	got, mine, gap := b.now(t, &brokerv1.WatchEventsRequest{Cursor: theirs})
	if !gap || len(got) != 2 {
		t.Errorf("gap %t, told %q", gap, got)
	}
	if got, _, gap := b.now(t, &brokerv1.WatchEventsRequest{Cursor: mine}); gap || len(got) > 0 {
		t.Errorf("after the gap: gap %t, told %q", gap, got)
	}
}

// TestEventsOfOthers: of what does not exist for a caller nothing is told either.
func TestEventsOfOthers(t *testing.T) {
	b := newBench(t, broker.Options{})
	b.create(t, &brokerv1.CreateSandboxRequest{Labels: map[string]string{"team": "a"}})
	told := func(ctx context.Context) int {
		r := &reading{more: make(chan struct{}, 1)}
		check(t, b.WatchEvents(ctx, &brokerv1.WatchEventsRequest{FromOldest: true, UntilNow: true}, r))
		got, _, _ := r.told()
		return len(got)
	}
	other := authz.Principal{Kind: brokerv1.CallerKind_CALLER_KIND_API_KEY, ID: "sbk_2", Tenant: "other", Acting: "other", Role: brokerv1.Role_ROLE_USER}
	for name, c := range map[string]struct {
		ctx  context.Context
		want int
	}{
		"the tenant's":       {by(t), 2},
		"another tenant's":   {authz.With(t.Context(), other), 0},
		"the team's":         {by(t, "label:team=a"), 2},
		"another team's":     {by(t, "label:team=b"), 0},
		"the provider's":     {by(t, "provider=test"), 2},
		"another provider's": {by(t, "provider=best"), 0},
	} {
		if got := told(c.ctx); got != c.want {
			t.Errorf("%s caller is told %d events, want %d", name, got, c.want)
		}
	}
}
