package storetest

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

func webhook(n int, tenant string) *state.Webhook {
	return &state.Webhook{
		Body: &brokerv1.Webhook{
			WebhookId: fmt.Sprintf("whk_%d", n), Tenant: tenant, Url: "https://example.com", CreatedAt: timestamppb.New(start),
			State: brokerv1.WebhookState_WEBHOOK_STATE_ACTIVE, Labels: map[string]string{"a": "b"},
		},
		Secret: []byte{1, 2}, Previous: []byte{3}, Version: 1,
	}
}

// webhooks are kept with their secrets, of a tenant, and what two have read is
// stored by one of them.
func webhooks(t *testing.T, s state.Store) {
	check(t, s.InsertTenant(t.Context(), &brokerv1.Tenant{Name: "acme"}))
	in := webhook(1, "acme")
	check(t, s.InsertWebhook(t.Context(), in))
	check(t, s.InsertWebhook(t.Context(), webhook(2, "default")))
	want(t, s.InsertWebhook(t.Context(), webhook(3, "nobody")), state.ErrNoTenant)
	read := func() *state.Webhook {
		t.Helper()
		got, err := s.Webhook(t.Context(), "whk_1")
		check(t, err)
		return got
	}
	if diff := cmp.Diff(in, read(), protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	events := from(t, s, true)
	first, second := read(), read()
	first.Body.Cursor, first.Secret, first.Previous = "c", []byte{4}, []byte{1, 2}
	first.Events = []*brokerv1.Event{{At: timestamppb.New(start), Reason: "told", WebhookId: "whk_1"}}
	check(t, s.UpdateWebhook(t.Context(), first))
	if first.Version != 2 || first.Events != nil {
		t.Errorf("version %d, events %v", first.Version, first.Events)
	}
	if diff := cmp.Diff(first, read(), protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	second.Events = []*brokerv1.Event{{At: timestamppb.New(start), Reason: "refused"}}
	want(t, s.UpdateWebhook(t.Context(), second), state.ErrConflict)
	events.expect("told")

	for tenant, expect := range map[string][]string{"acme": {"whk_1"}, "default": {"whk_2"}, "": {"whk_2", "whk_1"}, "nobody": nil} {
		var ids []string
		for token := ""; ; {
			page, next, err := s.ListWebhooks(t.Context(), tenant, state.Page{Size: 1, Token: token})
			check(t, err)
			for _, w := range page {
				ids = append(ids, w.ID())
			}
			if token = next; token == "" {
				break
			}
		}
		if diff := cmp.Diff(expect, ids); diff != "" {
			t.Errorf("webhooks of %q: -want +got:\n%s", tenant, diff)
		}
	}
	check(t, s.RemoveWebhook(t.Context(), "whk_2"))
	want(t, s.RemoveWebhook(t.Context(), "whk_2"), state.ErrNotFound)
	_, err := s.Webhook(t.Context(), "whk_2")
	want(t, err, state.ErrNotFound)
	check(t, s.RemoveTenant(t.Context(), "acme"))
	_, err = s.Webhook(t.Context(), "whk_1")
	want(t, err, state.ErrNotFound)
	want(t, s.UpdateWebhook(t.Context(), first), state.ErrConflict)
}

// holds: of those who want a webhook one gets it, until its time is over; and what
// that one has read is void when another takes it.
func holds(t *testing.T, s state.Store) {
	for n := range 3 {
		check(t, s.InsertWebhook(t.Context(), webhook(n, "default")))
	}
	off := webhook(3, "default")
	off.Body.State = brokerv1.WebhookState_WEBHOOK_STATE_DISABLED
	check(t, s.InsertWebhook(t.Context(), off))
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	hold := func(holder string, now int, expect map[string]int64) {
		t.Helper()
		got, err := s.HoldWebhooks(t.Context(), holder, at(now), at(now+30))
		check(t, err)
		if !maps.Equal(got, expect) {
			t.Errorf("%s holds %v at %d, want %v", holder, got, now, expect)
		}
	}
	all, none := map[string]int64{"whk_0": 2, "whk_1": 2, "whk_2": 2}, map[string]int64{}
	hold("a", 0, all)
	hold("b", 10, none)
	hold("a", 20, all) // until 50
	hold("b", 49, none)
	read, err := s.Webhook(t.Context(), "whk_0")
	check(t, err)
	if read.Holder != "a" || read.Version != 2 {
		t.Errorf("it is held by %q in version %d", read.Holder, read.Version)
	}
	later := map[string]int64{"whk_0": 3, "whk_1": 3, "whk_2": 3}
	hold("b", 50, later)
	want(t, s.UpdateWebhook(t.Context(), read), state.ErrConflict)
	hold("a", 60, none)
	check(t, s.ReleaseWebhooks(t.Context(), "b"))
	hold("a", 60, map[string]int64{"whk_0": 4, "whk_1": 4, "whk_2": 4})

	// One that is enabled is taken, by whoever comes first.
	off, err = s.Webhook(t.Context(), "whk_3")
	check(t, err)
	off.Body.State = brokerv1.WebhookState_WEBHOOK_STATE_ACTIVE
	check(t, s.UpdateWebhook(t.Context(), off))
	hold("b", 61, map[string]int64{"whk_3": 3})
	off, err = s.Webhook(t.Context(), "whk_3")
	check(t, err)
	off.Body.State = brokerv1.WebhookState_WEBHOOK_STATE_DISABLED
	check(t, s.UpdateWebhook(t.Context(), off))
	hold("b", 62, none)

	const rounds, holders = 10, 4
	for round := range rounds {
		held := make([]map[string]int64, holders)
		now := at(1000 * (round + 1))
		for _, err := range together(holders, func(i int) (err error) {
			held[i], err = s.HoldWebhooks(t.Context(), fmt.Sprintf("h%d", i), now, now.Add(time.Minute))
			return err
		}) {
			check(t, err)
		}
		n := 0
		for _, h := range held {
			n += len(h)
		}
		if n != 3 {
			t.Fatalf("round %d: 3 webhooks are held %d times: %v", round, n, held)
		}
	}
}
