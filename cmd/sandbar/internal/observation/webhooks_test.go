package observation_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// hereAllowed lets a broker's webhooks reach this machine.
const hereAllowed = "webhooks: {allow_http: true, allow_networks: [127.0.0.0/8]}\n"

// receiver is a URL that is told of events, and verifies what it gets as the
// specification's own library does.
type receiver struct {
	*httptest.Server
	t *testing.T

	mu   sync.Mutex
	keys []string
	// ids has each message that came, kinds their types.
	ids, kinds []string
	more       chan struct{} // closed when there is another one
	// hold, if not nil, keeps a message from being answered.
	hold chan struct{}
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{t: t, more: make(chan struct{})}
	r.Server = httptest.NewServer(http.HandlerFunc(r.take))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) take(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the broker was killed
	}
	var m struct {
		Type string
		Data struct{ Cursor string }
	}
	if err := json.Unmarshal(body, &m); err != nil {
		r.t.Errorf("%q: %v", body, err)
	}
	id := req.Header.Get("webhook-id")
	if strings.HasPrefix(m.Type, "sandbox.") && m.Data.Cursor != id {
		r.t.Errorf("message %s is of event %s", id, m.Data.Cursor)
	}
	r.mu.Lock()
	for _, key := range r.keys {
		wh, err := standardwebhooks.NewWebhook(key)
		if err == nil {
			err = wh.Verify(body, req.Header)
		}
		if err != nil {
			r.t.Errorf("message %s is not signed as it should be: %v", id, err)
		}
	}
	r.ids, r.kinds = append(r.ids, id), append(r.kinds, m.Type)
	close(r.more)
	r.more = make(chan struct{})
	hold := r.hold
	r.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-req.Context().Done():
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// await waits until what came is enough.
func (r *receiver) await(what string, enough func(ids []string) bool) {
	r.t.Helper()
	limit := time.After(patience)
	for {
		r.mu.Lock()
		ids, more := slices.Clone(r.ids), r.more
		r.mu.Unlock()
		if enough(ids) {
			return
		}
		select {
		case <-more:
		case <-limit:
			r.t.Fatalf("%s did not come; these did: %q", what, ids)
		}
	}
}

// got returns the ids and types of what came.
func (r *receiver) got() (ids, kinds []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ids), slices.Clone(r.kinds)
}

// block makes messages wait for their answer until free is called. n is how many
// came before.
func (r *receiver) block() (n int, free func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	hold := make(chan struct{})
	r.hold = hold
	return len(r.ids), func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.hold = nil
		close(hold)
	}
}

type webhookOf struct {
	ID     string `json:"webhook_id"`
	URL    string
	State  string
	Reason string `json:"status_reason"`
	Cursor string
}

// hook makes a webhook whose secret the receiver knows.
func (b *broker) hook(r *receiver, args ...string) webhookOf {
	b.t.Helper()
	var made struct {
		Webhook webhookOf
		Secret  string
	}
	if err := json.Unmarshal([]byte(b.ok(append([]string{"webhook", "create", "--json", r.URL}, args...)...)), &made); err != nil {
		b.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = []string{made.Secret}
	return made.Webhook
}

// cursors are those of all events after one.
func (b *broker) cursors(since string) (out []string) {
	b.t.Helper()
	for _, e := range b.events("--since", since) {
		out = append(out, e.Cursor)
	}
	return out
}

// TestWebhook: what happens to sandboxes is posted, signed, in order, and only
// what is wanted.
func TestWebhook(t *testing.T) {
	t.Parallel()
	b := serve(t, hereAllowed)
	all, some := newReceiver(t), newReceiver(t)
	hook := b.hook(all)
	filtered := b.hook(some, "--event", "sandbox.deleted", "--label", "team=a")
	id := b.ok("create", "--label", "team=a")
	other := b.ok("create")
	b.ok("pause", id)
	b.ok("rm", other)
	b.ok("rm", id)
	want := b.cursors(hook.Cursor)
	all.await("every event", func(ids []string) bool { return len(ids) >= len(want) })
	some.await("the end of the labelled", func(ids []string) bool { return len(ids) > 0 })
	if ids, _ := all.got(); !slices.Equal(ids, want) {
		t.Errorf("delivered were\n%q, want\n%q", ids, want)
	}
	ids, kinds := some.got()
	if last := want[len(want)-1]; !slices.Equal(ids, []string{last}) || kinds[0] != "sandbox.deleted" {
		t.Errorf("of what is wanted came %q %q, want %s", ids, kinds, last)
	}

	// Both secrets sign during a rotation, so each receiver verifies with either.
	var rotated struct{ Secret string }
	if err := json.Unmarshal([]byte(b.ok("webhook", "rotate", "--json", filtered.ID)), &rotated); err != nil || rotated.Secret == some.keys[0] {
		t.Fatal(err, rotated)
	}
	some.mu.Lock()
	some.keys = append(some.keys, rotated.Secret)
	some.mu.Unlock()
	b.ok("webhook", "test", filtered.ID)
	if _, kinds = some.got(); kinds[len(kinds)-1] != "webhook.test" {
		t.Errorf("the test message is among %q", kinds)
	}
	b.ok("webhook", "rm", filtered.ID)
	if text := b.ok("webhook", "ls", "--json"); strings.Contains(text, "whsec_") || !strings.Contains(text, hook.ID) || strings.Contains(text, filtered.ID) {
		t.Errorf("listed is %s", text)
	}
	b.stop()
	log := strings.Join(b.lines, "\n")
	for _, key := range append(slices.Clone(some.keys), all.keys...) {
		if strings.Contains(log, strings.TrimPrefix(key, "whsec_")) {
			t.Error("a secret is in the log")
		}
	}
}

// TestWebhookAcrossKills: the broker is killed while the receiver has a message and
// the broker does not know yet, again and again. The message comes again, all
// events come, and they come in order.
func TestWebhookAcrossKills(t *testing.T) {
	t.Parallel()
	b := serve(t, hereAllowed)
	r := newReceiver(t)
	hook := b.hook(r)
	for round := range 3 {
		before, free := r.block()
		b.ok("create", "--name", fmt.Sprintf("n%d", round))
		r.await("a message", func(ids []string) bool { return len(ids) > before })
		b = b.restart(syscall.SIGKILL)
		free()
		r.await("its repetition", func(ids []string) bool {
			return len(ids) > before+1 && slices.Contains(ids[before+1:], ids[before])
		})
	}
	b.ok("rm", "n0")
	want := b.cursors(hook.Cursor)
	r.await("the last event", func(ids []string) bool { return slices.Contains(ids, want[len(want)-1]) })
	ids, _ := r.got()
	var first []string // without repetitions, as a receiver that knows ids has them
	for _, id := range ids {
		if !slices.Contains(first, id) {
			first = append(first, id)
		}
	}
	if !slices.Equal(first, want) {
		t.Errorf("delivered were\n%q, want\n%q", first, want)
	}
	if len(ids) < len(first)+3 {
		t.Errorf("%d messages came for %d events and 3 kills", len(ids), len(first))
	}
}

// TestWebhooksReachNothingOfTheBrokers: unless the configuration says so, a tenant
// reaches neither the machine of the broker nor its network.
func TestWebhooksReachNothingOfTheBrokers(t *testing.T) {
	t.Parallel()
	b := serve(t, "")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var reached atomic.Int64
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			reached.Add(1)
			_ = c.Close()
		}
	})
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, url := range []string{"http://localhost:" + port, "https://127.0.0.1:" + port, "https://[::ffff:127.0.0.1]:" + port, "https://169.254.169.254/latest", "https://10.0.0.1", "https://[::1]"} {
		if out, code := b.sandbar("webhook", "create", url); code == 0 {
			t.Errorf("%s is taken: %s", url, out)
		}
	}
	b.ok("webhook", "create", "https://localhost:"+port) // a name is looked up when it matters
	var list []webhookOf
	if err := json.Unmarshal([]byte(b.ok("webhook", "ls", "--json")), &list); err != nil || len(list) != 1 {
		t.Fatal(err, list)
	}
	out, code := b.sandbar("webhook", "test", list[0].ID, "--json")
	if code == 0 || !strings.Contains(out, "a network that this broker may not reach") || strings.Contains(out, "127.0.0.1") {
		t.Errorf("a test says %d, %s", code, out)
	}
	b.ok("create")
	b.await("webhook is not delivered")
	_ = l.Close()
	accepting.Wait()
	if n := reached.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}
