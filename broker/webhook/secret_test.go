package webhook

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/broker/seal"
	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// signers takes messages, and notes with what each is signed.
type signers struct {
	mu   sync.Mutex
	with [][]string
}

func (s *signers) send(_ context.Context, w *state.Webhook, _ message) attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	with := []string{secretText(w.Secret)}
	if previousValid(w, time.Now()) {
		with = append(with, secretText(w.Previous))
	}
	s.with = append(s.with, with)
	return attempt{outcome: delivered, status: 200}
}

// last returns with what the last of so many messages is signed.
func (s *signers) last(t *testing.T, messages int) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.with) != messages {
		t.Fatalf("%d messages were sent, want %d", len(s.with), messages)
	}
	return strings.Join(s.with[messages-1], " ")
}

func sealingKeys(t *testing.T, newest []byte, before ...[]byte) *seal.Keys {
	t.Helper()
	k, err := seal.New(newest, before...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// during runs a broker with keys, tells it of an event, and ends it.
func during(m *memory, p poster, keys *seal.Keys, then func(*Service)) {
	s := start(m, Options{Holder: "a", Keys: keys}, p, func() {})
	defer s.Close()
	after(time.Second)
	m.happen("acme", changed, nil)
	after(2 * time.Second)
	then(s)
}

// stored is what the store has of the only webhook's secrets.
func (m *memory) stored(t *testing.T) [][]byte {
	t.Helper()
	w, err := m.Webhook(t.Context(), m.hook(t).GetWebhookId())
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{w.Secret, w.Previous}
}

// TestSealedSecrets follows a webhook over brokers with other keys each: from before
// there was one, over a rotation of the secret and of the key, to a lost key.
func TestSealedSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, p := newMemory(), &signers{}
		first, second, third := seal.NewKey(), seal.NewKey(), seal.NewKey()
		one, two := sealingKeys(t, first), sealingKeys(t, second, first)

		s := start(m, Options{Holder: "a"}, p, func() {})
		hook, secret, err := s.CreateWebhook(by("acme"), &brokerv1.CreateWebhookRequest{Url: "https://example.com"})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		if got := secretText(m.stored(t)[0]); got != secret {
			t.Fatalf("without a key %s is stored as %s", secret, got)
		}

		rotated := ""
		during(m, p, one, func(s *Service) {
			if got := p.last(t, 1); got != secret {
				t.Errorf("signed with %s, want %s", got, secret)
			}
			if !one.Current(m.stored(t)[0]) {
				t.Error("what was stored before there was a key is not sealed")
			}
			req := &brokerv1.RotateWebhookSecretRequest{WebhookId: hook.GetWebhookId(), Overlap: durationpb.New(time.Hour)}
			if _, rotated, err = s.RotateWebhookSecret(by("acme"), req); err != nil {
				t.Fatal(err)
			}
			m.happen("acme", changed, nil)
			after(2 * time.Second)
			if got := p.last(t, 2); got != rotated+" "+secret {
				t.Errorf("signed with %s, want %s and %s", got, rotated, secret)
			}
		})
		during(m, p, two, func(*Service) {
			if got := p.last(t, 3); got != rotated+" "+secret {
				t.Errorf("with another key signed with %s, want %s and %s", got, rotated, secret)
			}
			for i, stored := range m.stored(t) {
				if !two.Current(stored) || one.Current(stored) {
					t.Errorf("secret %d is not sealed with the new key", i)
				}
			}
		})
		during(m, p, sealingKeys(t, third), func(s *Service) {
			p.last(t, 3) // nothing is sent that nobody could verify
			b := m.hook(t)
			if b.GetState() != brokerv1.WebhookState_WEBHOOK_STATE_FAILING || !strings.Contains(b.GetStatusReason(), "sealed with a key that this broker does not have") {
				t.Errorf("it is %v: %s", b.GetState(), b.GetStatusReason())
			}
			if _, rotated, err = s.RotateWebhookSecret(by("acme"), &brokerv1.RotateWebhookSecretRequest{WebhookId: hook.GetWebhookId()}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.EnableWebhook(by("acme"), &brokerv1.EnableWebhookRequest{WebhookId: hook.GetWebhookId()}); err != nil {
				t.Fatal(err)
			}
			after(2 * time.Second)
			if got := p.last(t, 4); got != rotated {
				t.Errorf("signed with %s, want %s", got, rotated)
			}
		})
	})
}

// TestSecretOfAnother: what is sealed for one webhook signs for no other.
func TestSecretOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, p, keys := newMemory(), &signers{}, sealingKeys(t, seal.NewKey())
		s := start(m, Options{Holder: "a", Keys: keys}, p, func() {})
		defer s.Close()
		mine, theirs := s.make(t), s.make(t)
		m.mu.Lock()
		if bytes.Equal(m.hooks[mine].Secret, m.hooks[theirs].Secret) {
			t.Error("both have one secret")
		}
		m.hooks[mine].Secret = m.hooks[theirs].Secret
		m.mu.Unlock()
		res, err := s.TestWebhook(by("acme"), mine)
		if err != nil || res.GetDelivered() || !strings.Contains(res.GetReason(), "not as it was sealed") {
			t.Errorf("a message is signed with another's secret: %v, %v", res, err)
		}
		if res, err = s.TestWebhook(by("acme"), theirs); err != nil || !res.GetDelivered() {
			t.Errorf("the other's own: %v, %v", res, err)
		}
	})
}
