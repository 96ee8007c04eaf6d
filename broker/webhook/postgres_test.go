package webhook

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/broker/state/postgres"
	"github.com/sandbar-dev/sandbar/broker/state/postgres/pgtest"
	"github.com/sandbar-dev/sandbar/broker/state/relational"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// patience bounds what a test waits for on a busy machine.
const patience = 2 * time.Minute

// storeOn opens a broker's own way to a database.
func storeOn(t *testing.T, url string) *relational.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), url, postgres.Options{Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// ids are what a receiver got, and from when on it has all of them. As receivers
// are told to, it takes nothing twice.
type ids struct {
	mu      sync.Mutex
	got     []string
	repeats int
	want    int
	all     chan struct{}
}

func (i *ids) take(_ http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	id := r.Header.Get(HeaderID)
	if slices.Contains(i.got, id) {
		i.repeats++
		return
	}
	i.got = append(i.got, id)
	if len(i.got) == i.want {
		close(i.all)
	}
}

// TestBrokersOnOneDatabase: three of them, each of which stores events at the same
// time, deliver each event in the order of the log, also when the one that delivers
// leaves in the middle; only what is under way then may come once more.
func TestBrokersOnOneDatabase(t *testing.T) {
	url := pgtest.URL(t)
	const brokers, each = 3, 20
	got := &ids{want: 2 * brokers * each, all: make(chan struct{})}
	address, _ := receiver(t, got.take)
	var stores []*relational.Store
	var services []*Service
	for n := range brokers {
		stores = append(stores, storeOn(t, url))
		services = append(services, New(stores[n], Options{Holder: string(rune('a' + n)), Policy: here}))
		defer services[n].Close()
	}
	w, _, err := services[0].CreateWebhook(by("default"), &brokerv1.CreateWebhookRequest{Url: address})
	if err != nil {
		t.Fatal(err)
	}
	happen := func(from int) {
		var all sync.WaitGroup
		for n, s := range stores {
			all.Go(func() {
				for i := range each {
					if err := s.InsertSandboxes(t.Context(), nil, told(from+n*each+i)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
	}
	happen(0)
	services[0].Close()
	happen(1000)
	select {
	case <-got.all:
	case <-time.After(patience):
	}
	for _, s := range services[1:] {
		s.Close()
	}
	events, _, err := stores[0].Events(t.Context(), w.GetCursor(), 2*got.want)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, e := range events {
		want = append(want, e.GetCursor())
	}
	got.mu.Lock()
	defer got.mu.Unlock()
	if got.repeats > 1 {
		t.Errorf("%d messages came again", got.repeats)
	}
	if len(want) != got.want || !slices.Equal(got.got, want) {
		t.Errorf("%d events were stored, and %d messages came:\n%q, want\n%q", len(want), len(got.got), got.got, want)
	}
}

// told is a sandbox that tells that it is made.
func told(n int) *state.Sandbox {
	id := newID("sbx_")
	return &state.Sandbox{
		Body:   &brokerv1.Sandbox{SandboxId: id, Tenant: "default", Provider: "p"},
		Status: lifecycle.Status{State: providerv1.SandboxState_SANDBOX_STATE_RUNNING}, Version: 1,
		Operation: &providerv1.Operation{IdempotencyKey: id},
		Events: []*brokerv1.Event{{
			At: timestamppb.New(time.Unix(int64(n), 0)), Type: created, SandboxId: id, Tenant: "default",
		}},
	}
}
