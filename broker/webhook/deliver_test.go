package webhook

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

const (
	created = brokerv1.EventType_EVENT_TYPE_SANDBOX_CREATING
	changed = brokerv1.EventType_EVENT_TYPE_SANDBOX_STATE_CHANGED
	deleted = brokerv1.EventType_EVENT_TYPE_SANDBOX_DELETED
)

// inbox is a receiver that says what it is told to.
type inbox struct {
	mu sync.Mutex
	// answer says what comes of a message; nil: it is taken.
	answer func(m message) attempt
	got    []message
	at     []time.Time
	// signed has how many secrets signed each.
	signed []int
}

func (i *inbox) send(ctx context.Context, w *state.Webhook, m message) attempt {
	i.mu.Lock()
	i.got, i.at = append(i.got, m), append(i.at, time.Now())
	h := http.Header{}
	sign(h, w, m, time.Now())
	i.signed = append(i.signed, len(strings.Fields(h.Get(HeaderSignature))))
	answer := i.answer
	i.mu.Unlock()
	if answer == nil {
		return attempt{outcome: delivered, status: 200}
	}
	a := answer(m)
	if ctx.Err() != nil && a.outcome != delivered {
		a.outcome = canceled
	}
	return a
}

func (i *inbox) say(answer func(m message) attempt) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = answer
}

func (i *inbox) ids() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var out []string
	for _, m := range i.got {
		out = append(out, m.id)
	}
	return out
}

func (i *inbox) expect(t *testing.T, ids ...string) {
	t.Helper()
	if got := i.ids(); !slices.Equal(got, ids) {
		t.Errorf("delivered were %q, want %q", got, ids)
	}
}

func fails(message) attempt {
	return attempt{outcome: refused, status: 500, problem: "it answered with status 500"}
}

// by is a call by an admin of a tenant.
func by(tenant string) context.Context {
	return authz.With(context.Background(), authz.Principal{ID: "uid:0", Tenant: tenant, Acting: tenant, Role: brokerv1.Role_ROLE_ADMIN})
}

// world is one broker in fake time, and what it delivers to.
type world struct {
	t *testing.T
	m *memory
	s *Service
	i *inbox
}

// bubble runs a test in fake time.
func bubble(t *testing.T, test func(world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m, i := newMemory(), &inbox{}
		s := start(m, Options{Holder: "a"}, i, func() {})
		defer s.Close()
		test(world{t, m, s, i})
	})
}

func (s *Service) make(t *testing.T, change ...func(*brokerv1.CreateWebhookRequest)) string {
	t.Helper()
	req := &brokerv1.CreateWebhookRequest{Url: "https://example.com"}
	for _, c := range change {
		c(req)
	}
	w, _, err := s.CreateWebhook(by("acme"), req)
	if err != nil {
		t.Fatal(err)
	}
	return w.GetWebhookId()
}

// after lets time pass until all is done that happens within it.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestDelivery: what happens from the making on, in order, once, with what the
// event says.
func TestDelivery(t *testing.T) {
	bubble(t, func(w world) {
		t, m, s, i := w.t, w.m, w.s, w.i
		m.happen("acme", created, nil) // before there was a webhook
		s.make(t)
		after(5 * time.Second)
		i.expect(t)
		var want []string
		for range 3 * eventPage / 2 {
			want = append(want, m.happen("acme", changed, nil))
		}
		m.happen("other", created, nil)
		after(2 * time.Second)
		i.expect(t, want...)
		if b := m.hook(t); b.GetCursor() < want[len(want)-1] || b.GetLastDeliveredAt() == nil || b.GetState() != brokerv1.WebhookState_WEBHOOK_STATE_ACTIVE {
			t.Errorf("it stands at %v", b)
		}
		var body struct {
			Type      string
			Timestamp time.Time
			Data      map[string]any
		}
		if err := json.Unmarshal(i.got[0].body, &body); err != nil {
			t.Fatal(err)
		}
		if body.Type != "sandbox.state_changed" || body.Timestamp.IsZero() || body.Data["cursor"] != want[0] || body.Data["sandbox_id"] != "sbx_1" {
			t.Errorf("a message is %s", i.got[0].body)
		}
		if s.Busy() {
			t.Error("the broker is busy with nothing")
		}
		after(24 * time.Hour)
		i.expect(t, want...)
	})
}

func TestFilters(t *testing.T) {
	bubble(t, func(w world) {
		t, m, s, i := w.t, w.m, w.s, w.i
		s.make(t, func(r *brokerv1.CreateWebhookRequest) {
			r.EventTypes, r.Labels = []brokerv1.EventType{created, deleted}, map[string]string{"team": "a", "x": "y"}
		})
		both := map[string]string{"team": "a", "x": "y", "z": ""}
		want := []string{m.happen("acme", created, both)}
		m.happen("acme", changed, both)
		m.happen("acme", created, map[string]string{"team": "a"})
		m.happen("acme", created, map[string]string{"team": "b", "x": "y"})
		m.happen("other", created, both)
		want = append(want, m.happen("acme", deleted, both))
		after(2 * time.Second)
		i.expect(t, want...)

		// What is not wanted moves the cursor too, only later.
		last := m.happen("other", created, both)
		after(2 * passedFor)
		i.expect(t, want...)
		if got := m.hook(t).GetCursor(); got != last {
			t.Errorf("it stands at %s, want %s", got, last)
		}
	})
}

// TestBackOffAndDisabling: a message is tried for days, others wait for it, then
// the webhook is disabled, which is an event; and it goes on with that message when
// it is enabled.
func TestBackOffAndDisabling(t *testing.T) {
	bubble(t, func(w world) {
		t, m, s, i := w.t, w.m, w.s, w.i
		id := s.make(t)
		i.say(fails)
		first := m.happen("acme", created, nil)
		second := m.happen("acme", deleted, nil)
		after(2 * time.Second)
		if b := m.hook(t); b.GetState() != brokerv1.WebhookState_WEBHOOK_STATE_FAILING || b.GetAttempts() != 1 || b.GetNextAttemptAt() == nil || b.GetStatusReason() != "it answered with status 500" {
			t.Errorf("after one attempt it is %v", b)
		}
		if !s.Busy() {
			t.Error("the broker has nothing to do while a message waits")
		}
		after(200 * time.Hour)
		attempts := len(delays) + 1
		i.expect(t, slices.Repeat([]string{first}, attempts)...)
		for n := 1; n < attempts; n++ {
			if d := i.at[n].Sub(i.at[n-1]); d < delays[n-1] || d > delays[n-1]*5/4+time.Second {
				t.Errorf("the pause after attempt %d is %s, want about %s", n, d, delays[n-1])
			}
		}
		b := m.hook(t)
		if b.GetState() != brokerv1.WebhookState_WEBHOOK_STATE_DISABLED || b.GetDisabledAt() == nil || b.GetNextAttemptAt() != nil ||
			!strings.Contains(b.GetStatusReason(), "11 attempts failed since") || s.Busy() {
			t.Errorf("after days it is %v, busy %t", b, s.Busy())
		}
		told := m.events[len(m.events)-1]
		if told.GetType() != brokerv1.EventType_EVENT_TYPE_WEBHOOK_DISABLED || told.GetWebhookId() != id || told.GetTenant() != "acme" || told.GetReason() != b.GetStatusReason() {
			t.Errorf("the last event is %v", told)
		}

		i.say(nil)
		i.got = nil
		if _, err := s.EnableWebhook(by("acme"), &brokerv1.EnableWebhookRequest{WebhookId: id}); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		i.expect(t, first, second, told.GetCursor())
		if b := m.hook(t); b.GetState() != brokerv1.WebhookState_WEBHOOK_STATE_ACTIVE || b.GetAttempts() != 0 || b.GetDisabledAt() != nil || b.GetFailingSince() != nil {
			t.Errorf("after it was enabled it is %v", b)
		}
	})
}

// TestEnablingTriesAtOnce, whatever the pause was; and from_now leaves out what
// waits.
func TestEnablingTriesAtOnce(t *testing.T) {
	bubble(t, func(w world) {
		t, m, s, i := w.t, w.m, w.s, w.i
		id := s.make(t)
		i.say(fails)
		first := m.happen("acme", created, nil)
		after(time.Hour)
		n := len(i.ids())
		i.say(nil)
		if _, err := s.EnableWebhook(by("acme"), &brokerv1.EnableWebhookRequest{WebhookId: id}); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		if got := i.ids(); len(got) != n+1 || got[n] != first {
			t.Errorf("after enabling delivered were %q", got[n:])
		}
		if _, err := s.DisableWebhook(by("acme"), id); err != nil {
			t.Fatal(err)
		}
		after(holdEvery)
		m.happen("acme", created, nil)
		after(time.Hour)
		if got := i.ids(); len(got) != n+1 {
			t.Errorf("while it was disabled delivered were %q", got[n+1:])
		}
		if _, err := s.EnableWebhook(by("acme"), &brokerv1.EnableWebhookRequest{WebhookId: id, FromNow: true}); err != nil {
			t.Fatal(err)
		}
		last := m.happen("acme", deleted, nil)
		after(2 * time.Second)
		if got := i.ids(); len(got) != n+2 || got[n+1] != last {
			t.Errorf("from then on delivered were %q, want %q", got[n+1:], last)
		}
	})
}

func TestGoneForGood(t *testing.T) {
	bubble(t, func(w world) {
		t, m, s, i := w.t, w.m, w.s, w.i
		s.make(t)
		i.say(func(message) attempt {
			return attempt{outcome: refused, status: 410, problem: "it answered with status 410"}
		})
		first := m.happen("acme", created, nil)
		after(time.Hour)
		i.expect(t, first)
		if b := m.hook(t); b.GetState() != brokerv1.WebhookState_WEBHOOK_STATE_DISABLED || !strings.Contains(b.GetStatusReason(), "410") {
			t.Errorf("it is %v", b)
		}
	})
}

// TestAGapIsTold: events that were dropped while a receiver was away are not left
// out without a word, and the word has one id.
func TestAGapIsTold(t *testing.T) {
	bubble(t, func(w world) {
		t, m, s, i := w.t, w.m, w.s, w.i
		s.make(t, func(r *brokerv1.CreateWebhookRequest) { r.EventTypes = []brokerv1.EventType{deleted} })
		from := m.hook(t).GetCursor()
		i.say(fails)
		m.happen("acme", deleted, nil)
		after(2 * time.Second)
		i.got = nil
		m.happen("acme", deleted, nil)
		kept := m.happen("acme", deleted, nil)
		m.purge(1)
		after(time.Minute)
		i.say(nil)
		after(time.Hour)
		ids := i.ids()
		if n := len(ids); n < 3 || ids[n-1] != kept || ids[n-2] != "gap_"+from || ids[0] != ids[n-2] {
			t.Fatalf("delivered were %q", ids)
		}
		gap := string(i.got[0].body)
		if !strings.Contains(gap, `"type":"events.gap"`) || !strings.Contains(gap, `"after_cursor":"`+from+`"`) || !strings.Contains(gap, `"next_cursor":"`+cursorOf(m.first)+`"`) {
			t.Errorf("the gap is told as %s", gap)
		}
	})
}

// TestRotation: while a receiver learns the new secret both sign, and then one.
func TestRotation(t *testing.T) {
	bubble(t, func(w world) {
		t, m, s, i := w.t, w.m, w.s, w.i
		id := s.make(t)
		send := func() {
			m.happen("acme", changed, nil)
			after(2 * time.Second)
		}
		send()
		hook, secret, err := s.RotateWebhookSecret(by("acme"), &brokerv1.RotateWebhookSecretRequest{WebhookId: id, Overlap: durationpb.New(time.Hour)})
		if err != nil || !strings.HasPrefix(secret, "whsec_") || time.Until(hook.GetPreviousSecretExpiresAt().AsTime()) != time.Hour {
			t.Fatalf("rotated: %v, %v", hook, err)
		}
		send()
		after(time.Hour)
		send()
		if b := m.hook(t); b.GetPreviousSecretExpiresAt() != nil || len(m.hooks[id].Previous) != 0 {
			t.Errorf("a secret that ended is kept: %v", b)
		}
		if _, _, err := s.RotateWebhookSecret(by("acme"), &brokerv1.RotateWebhookSecretRequest{WebhookId: id, Overlap: durationpb.New(0)}); err != nil {
			t.Fatal(err)
		}
		send()
		if !slices.Equal(i.signed, []int{1, 2, 1, 1}) {
			t.Errorf("messages had %v signatures", i.signed)
		}
	})
}

// TestRemovalEndsDelivery, also of what waits.
func TestRemovalEndsDelivery(t *testing.T) {
	bubble(t, func(w world) {
		t, m, s, i := w.t, w.m, w.s, w.i
		id := s.make(t)
		i.say(fails)
		m.happen("acme", created, nil)
		after(2 * time.Second)
		if absent, err := s.DeleteWebhook(by("acme"), id); absent || err != nil {
			t.Fatal(absent, err)
		}
		i.say(nil)
		after(time.Hour)
		if n := len(i.ids()); n != 1 || s.Busy() {
			t.Errorf("%d attempts, busy %t", n, s.Busy())
		}
	})
}
