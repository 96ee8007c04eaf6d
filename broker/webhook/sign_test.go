package webhook

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// verify says whether a receiver with the specification's own library takes a
// message.
func verify(t *testing.T, secret string, h http.Header, body []byte) error {
	t.Helper()
	wh, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	return wh.Verify(body, h)
}

// TestSignatureOfTheSpecification: the one that its libraries are tested by.
func TestSignatureOfTheSpecification(t *testing.T) {
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", SecretPrefix))
	if err != nil {
		t.Fatal(err)
	}
	got := signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("signature is %s, want %s", got, want)
	}
}

// TestTwoSignaturesDuringAnOverlap: a receiver with either secret takes a message,
// until the overlap is over, and one with another never does.
func TestTwoSignaturesDuringAnOverlap(t *testing.T) {
	now := time.Now()
	first, second, other := newSecret(), newSecret(), newSecret()
	m := message{"id", []byte(`{"a":1}`)}
	for name, tc := range map[string]struct {
		w     *state.Webhook
		valid []bool // first, second, other
		n     int
	}{
		"one":        {&state.Webhook{Secret: first, Body: &brokerv1.Webhook{}}, []bool{true, false, false}, 1},
		"overlap":    {&state.Webhook{Secret: second, Previous: first, Body: &brokerv1.Webhook{PreviousSecretExpiresAt: timestamppb.New(now.Add(time.Second))}}, []bool{true, true, false}, 2},
		"over":       {&state.Webhook{Secret: second, Previous: first, Body: &brokerv1.Webhook{PreviousSecretExpiresAt: timestamppb.New(now)}}, []bool{false, true, false}, 1},
		"no overlap": {&state.Webhook{Secret: second, Previous: first, Body: &brokerv1.Webhook{}}, []bool{false, true, false}, 1},
	} {
		h := http.Header{}
		sign(h, tc.w, m, now)
		if n := len(strings.Fields(h.Get(HeaderSignature))); n != tc.n {
			t.Errorf("%s: %d signatures, want %d", name, n, tc.n)
		}
		for i, secret := range [][]byte{first, second, other} {
			if err := verify(t, secretText(secret), h, m.body); (err == nil) != tc.valid[i] {
				t.Errorf("%s: secret %d: %v", name, i, err)
			}
		}
		if err := verify(t, secretText(tc.w.Secret), h, []byte(`{"a":2}`)); err == nil {
			t.Errorf("%s: another body is taken", name)
		}
		h.Set(HeaderID, "other")
		if err := verify(t, secretText(tc.w.Secret), h, m.body); err == nil {
			t.Errorf("%s: another id is taken", name)
		}
	}
}

func TestSecretsAreWhatReceiversTake(t *testing.T) {
	a, b := secretText(newSecret()), secretText(newSecret())
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(a, "whsec_"))
	if err != nil || len(raw) < 24 || len(raw) > 64 || a == b {
		t.Errorf("secrets are %d bytes (%v) and the same: %t; want 24 to 64 in base64", len(raw), err, a == b)
	}
}

func TestTypesOfEvents(t *testing.T) {
	for _, n := range TypeNames() {
		e, err := ParseType(n)
		if err != nil || TypeName(e) != n {
			t.Errorf("%s is read as %v, %v", n, e, err)
		}
	}
	if got := TypeName(brokerv1.EventType_EVENT_TYPE_SANDBOX_STATE_CHANGED); got != "sandbox.state_changed" {
		t.Errorf("a change of state is %q", got)
	}
	for _, bad := range []string{"", "unspecified", "sandbox.state.changed", "SANDBOX.DELETED"} {
		if _, err := ParseType(bad); err == nil {
			t.Errorf("%q is a type", bad)
		}
	}
}
