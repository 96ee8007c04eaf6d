package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "very-secret"

// serve answers with handler, and returns a client and an address.
func serve(t *testing.T, handler http.HandlerFunc) (*Client, string) {
	t.Helper()
	server := httptest.NewServer(handler)
	c := NewClient(Options{Token: token, UserAgent: "test", Refusal: func(body []byte) (code, message string) {
		var said struct{ Code, Message string }
		_ = json.Unmarshal(body, &said) // then it says nothing
		return said.Code, said.Message
	}, InvalidToken: func(body []byte) bool { return strings.Contains(string(body), "invalid") }, Header: http.Header{"X-Always": {"yes"}, "Content-Type": {"text/odd"}}})
	t.Cleanup(func() {
		c.Close()
		server.Close()
	})
	return c, server.URL
}

func TestAnswers(t *testing.T) {
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		reason  providerv1.ErrorReason
		effect  providerv1.Effect
		wait    time.Duration
	}{
		{"no JSON", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL, effectUnknown, 0},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL, effectNone, 0},
		{"a limit", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		}, providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED, effectNone, 7 * time.Second},
		{"its fault", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, effectUnknown, 0},
		{"nothing", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, effectUnknown, 0},
		{"a wrong token", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID, effectNone, 0},
		{"a right that it lacks", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INSUFFICIENT, effectNone, 0},
		{"a token that it says is wrong", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"code": "invalid"}`))
		}, providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID, effectNone, 0},
	} {
		c, url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" || r.Header.Get("Authorization") != "Bearer "+token {
				t.Errorf("%s: a request came to %s with %q", tc.name, r.URL.Path, r.Header.Get("Authorization"))
			}
			if r.Header.Get("X-Always") != "yes" || r.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s: a request came with %v: want what every one has, and its own type", tc.name, r.Header)
			}
			tc.handler(w, r)
		})
		var out map[string]any
		err := c.JSON(t.Context(), http.MethodPost, url+"/call", map[string]string{"a": "b"}, &out)
		f := fault.From(Explain(err, true))
		if f == nil || f.Reason != tc.reason || f.Effect != tc.effect || f.RetryAfter != tc.wait {
			t.Errorf("%s: %v: want %s with effect %s, to be tried again after %s", tc.name, err, fault.Name(tc.reason), fault.EffectName(tc.effect), tc.wait)
		}
		if strings.Contains(f.Error(), token) || strings.Contains(err.Error(), token) {
			t.Errorf("%s: the error has the token: %v", tc.name, err)
		}
	}
	if err := Explain(nil, true); err != nil {
		t.Errorf("no error is explained as %v", err)
	}
}

// TestNeverSent: a vendor that cannot be connected to has not been asked.
func TestNeverSent(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	c := NewClient(Options{Token: token})
	defer c.Close()
	err := c.JSON(t.Context(), http.MethodPost, server.URL, nil, nil)
	var lost *LostError
	if !errors.As(err, &lost) || lost.Sent || fault.From(Explain(err, true)).Effect != effectNone {
		t.Errorf("it is answered with %v: want a call that was never sent", err)
	}
}

// TestCancelled: a call that was sent and is given up may have had an effect.
func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c, url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	f := fault.From(Explain(c.JSON(ctx, http.MethodGet, url, nil, nil), true))
	if f.Reason != providerv1.ErrorReason_ERROR_REASON_CANCELED || f.Effect != effectUnknown {
		t.Errorf("it is answered with %v: want CANCELED with effect unknown", f)
	}
}

func TestFlights(t *testing.T) {
	var f Flights
	leave, err := f.Enter(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := f.Enter(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	other()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Enter(ended, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("a second flight for a key is answered with %v", err)
	}
	entered := make(chan func())
	go func() {
		next, _ := f.Enter(t.Context(), "a")
		entered <- next
	}()
	leave()
	(<-entered)()
}

func TestPlaces(t *testing.T) {
	var p Places[int]
	p.Remember("a", 1)
	p.Remember("b", 2)
	p.Forget("a")
	if _, ok := p.Find("a"); ok {
		t.Error("what was forgotten is found")
	}
	if at, ok := p.Find("b"); !ok || at != 2 {
		t.Errorf("it is at %d, %t", at, ok)
	}
	p.ForgetAll()
	if _, ok := p.Find("b"); ok {
		t.Error("what was forgotten with all is found")
	}
}
