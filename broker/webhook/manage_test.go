package webhook

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func want(t *testing.T, err error, reason providerv1.ErrorReason, says string) {
	t.Helper()
	if !fault.Has(err, reason) || !strings.Contains(err.Error(), says) {
		t.Errorf("%v, want %v with %q", err, reason, says)
	}
}

const invalid = providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID

func TestWhatCannotBe(t *testing.T) {
	bubble(t, func(w world) {
		t, s := w.t, w.s
		for says, req := range map[string]*brokerv1.CreateWebhookRequest{
			`url is "http://…@h": want`:  {Url: "http://me:hush@h?hush"},
			"webhooks.allow_networks":    {Url: "https://10.0.0.1"},
			"description":                {Url: "https://h", Description: strings.Repeat("x", 256)},
			"want some of sandbox.creat": {Url: "https://h", EventTypes: []brokerv1.EventType{0}},
			"event_types is":             {Url: "https://h", EventTypes: []brokerv1.EventType{99}},
			`labels is "a b"`:            {Url: "https://h", Labels: map[string]string{"a b": ""}},
		} {
			_, _, err := s.CreateWebhook(by("acme"), req)
			want(t, err, invalid, says)
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Errorf("it says too much: %v", err)
			}
		}
		_, _, err := s.CreateWebhook(by(authz.AllTenants), &brokerv1.CreateWebhookRequest{Url: "https://h"})
		want(t, err, invalid, "want the one tenant")
		_, _, err = s.CreateWebhook(context.Background(), &brokerv1.CreateWebhookRequest{Url: "https://h"})
		want(t, err, providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID, "nobody's")
		id := s.make(t)
		for _, d := range []time.Duration{-1, maxOverlap + 1} {
			_, _, err = s.RotateWebhookSecret(by("acme"), &brokerv1.RotateWebhookSecretRequest{WebhookId: id, Overlap: durationpb.New(d)})
			want(t, err, invalid, "overlap is")
		}
		for range maxWebhooks - 1 {
			s.make(t)
		}
		_, _, err = s.CreateWebhook(by("acme"), &brokerv1.CreateWebhookRequest{Url: "https://h"})
		want(t, err, providerv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, "has 20 webhooks")
	})
}

// TestOthersWebhooks do not exist.
func TestOthersWebhooks(t *testing.T) {
	bubble(t, func(w world) {
		t, m, s, i := w.t, w.m, w.s, w.i
		id := s.make(t)
		other := by("other")
		_, err := s.TestWebhook(other, id)
		want(t, err, invalid, "want the id of a webhook of tenant other")
		_, err = s.EnableWebhook(other, &brokerv1.EnableWebhookRequest{WebhookId: id})
		want(t, err, invalid, id)
		_, err = s.DisableWebhook(other, id)
		want(t, err, invalid, id)
		_, _, err = s.RotateWebhookSecret(other, &brokerv1.RotateWebhookSecretRequest{WebhookId: id})
		want(t, err, invalid, id)
		if absent, err := s.DeleteWebhook(other, id); !absent || err != nil {
			t.Errorf("another tenant deletes it: %t, %v", absent, err)
		}
		list, err := s.ListWebhooks(other, &brokerv1.ListWebhooksRequest{})
		if err != nil || len(list.GetWebhooks()) != 0 {
			t.Errorf("another tenant lists %v, %v", list, err)
		}
		if list, err = s.ListWebhooks(by(authz.AllTenants), &brokerv1.ListWebhooksRequest{}); err != nil || len(list.GetWebhooks()) != 1 {
			t.Errorf("an admin of all lists %v, %v", list, err)
		}
		i.expect(t)
		if m.hook(t).GetState() != brokerv1.WebhookState_WEBHOOK_STATE_ACTIVE {
			t.Error("another tenant changed it")
		}
	})
}

func TestTestMessage(t *testing.T) {
	bubble(t, func(w world) {
		t, m, s, i := w.t, w.m, w.s, w.i
		id := s.make(t)
		res, err := s.TestWebhook(by("acme"), id)
		if err != nil || !res.GetDelivered() || res.GetStatusCode() != 200 || !strings.HasPrefix(res.GetMessageId(), "msg_test_") {
			t.Errorf("a test is %v, %v", res, err)
		}
		i.expect(t, res.GetMessageId())
		if body := string(i.got[0].body); !strings.Contains(body, `"type":"webhook.test"`) || !strings.Contains(body, id) {
			t.Errorf("the message is %s", body)
		}
		i.say(fails)
		res, err = s.TestWebhook(by("acme"), id)
		if err != nil || res.GetDelivered() || res.GetStatusCode() != 500 || res.GetReason() != "it answered with status 500" {
			t.Errorf("a test that fails is %v, %v", res, err)
		}
		if b := m.hook(t); b.GetAttempts() != 0 {
			t.Errorf("a test counts: %v", b)
		}
	})
}

// TestSecretsStaySecret: in no log, error or listing, with whatever happens.
func TestSecretsStaySecret(t *testing.T) {
	var log bytes.Buffer
	m := newMemory()
	attempted := make(chan string, 8)
	s := New(m, Options{
		Holder: "a", Policy: here, Attempted: func(_ context.Context, outcome string, _ time.Duration) { attempted <- outcome },
		Log: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	url, _ := receiver(t, fail500)
	w, secret, err := s.CreateWebhook(by("acme"), &brokerv1.CreateWebhookRequest{Url: url + "/?token=hush"})
	if err != nil {
		t.Fatal(err)
	}
	_, second, err := s.RotateWebhookSecret(by("acme"), &brokerv1.RotateWebhookSecretRequest{WebhookId: w.GetWebhookId()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.TestWebhook(by("acme"), w.GetWebhookId()); err != nil {
		t.Fatal(err)
	}
	m.happen("acme", created, nil)
	for range 2 {
		if outcome := <-attempted; outcome != refused {
			t.Errorf("an attempt is %s", outcome)
		}
	}
	s.Close() // which waits for what came of it to be stored
	list, err := s.ListWebhooks(by("acme"), &brokerv1.ListWebhooksRequest{})
	if err != nil || list.GetWebhooks()[0].GetAttempts() == 0 {
		t.Fatalf("listed are %v, %v", list, err)
	}
	text := log.String() + list.String()
	if !strings.Contains(text, "webhook is not delivered") {
		t.Errorf("nothing is logged: %s", text)
	}
	for _, bare := range []string{strings.TrimPrefix(secret, SecretPrefix), strings.TrimPrefix(second, SecretPrefix)} {
		if strings.Contains(text, bare) {
			t.Errorf("a secret is told: %s", text)
		}
	}
	if strings.Contains(log.String(), "hush") {
		t.Errorf("a token of a URL is logged: %s", log.String())
	}
}
