package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/broker/state/postgres/pgtest"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Main{M: m}) }

// here lets tests reach their own machine.
var here = Policy{AllowHTTP: true, AllowNetworks: prefixes("127.0.0.0/8", "::1/128")}

func testSender(t *testing.T, p Policy, c *tls.Config) *sender {
	t.Helper()
	s := newSender(p, "v1", c)
	t.Cleanup(s.client.CloseIdleConnections)
	return s
}

// receiver serves at an address of this machine and counts requests.
func receiver(t *testing.T, h http.HandlerFunc) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, requests
}

func to(url string) *state.Webhook {
	return &state.Webhook{Body: &brokerv1.Webhook{WebhookId: "whk_1", Url: url}, Secret: newSecret()}
}

var hello = message{"id-1", []byte(`{"type":"webhook.test"}`)}

// TestAMessage is what a receiver gets.
func TestAMessage(t *testing.T) {
	w := to("")
	url, _ := receiver(t, func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != string(hello.body) || r.Method != http.MethodPost || r.URL.Path != "/hook" || r.URL.RawQuery != "k=v" {
			t.Errorf("%s %s: %q, %v", r.Method, r.URL, body, err)
		}
		if r.Header.Get("Content-Type") != "application/json" || r.Header.Get("User-Agent") != "sandbar/v1" || r.Header.Get("webhook-id") != hello.id {
			t.Errorf("headers are %v", r.Header)
		}
		if err := verify(t, secretText(w.Secret), r.Header, body); err != nil {
			t.Errorf("it is not taken: %v", err)
		}
	})
	w.Body.Url = url + "/hook?k=v"
	if a := testSender(t, here, nil).send(t.Context(), w, hello); a.outcome != delivered || a.status != http.StatusOK || a.problem != "" || a.took <= 0 {
		t.Errorf("attempt is %+v", a)
	}
}

func TestAnswers(t *testing.T) {
	const secret = "receiver-words"
	var elsewhere atomic.Int64
	other, _ := receiver(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	for name, tc := range map[string]struct {
		answer  http.HandlerFunc
		outcome string
		status  int
		says    string
		retry   time.Duration
	}{
		"204":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, delivered, 204, "", 0},
		"299":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(299) }, delivered, 299, "", 0},
		"redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other, http.StatusTemporaryRedirect) }, refused, 307, "status 307; redirections are not followed", 0},
		"404":      {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, secret, http.StatusNotFound) }, refused, 404, "it answered with status 404", 0},
		"gone":     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }, refused, 410, "status 410", 0},
		"later": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, refused, 503, "status 503", 2 * time.Minute},
		"endless body": {func(w http.ResponseWriter, _ *http.Request) {
			for w != nil {
				if _, err := w.Write(make([]byte, 32<<10)); err != nil {
					return
				}
			}
		}, delivered, 200, "", 0},
		"endless headers": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat(secret, 4*maxHeader))
			w.WriteHeader(http.StatusOK)
		}, unreachable, 0, "the connection broke", 0},
		"no answer": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, unreachable, 0, "the connection broke", 0},
		"nonsense": {func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = io.WriteString(c, secret+"\r\n\r\n")
				_ = c.Close()
			}
		}, unreachable, 0, "the connection broke", 0},
	} {
		t.Run(name, func(t *testing.T) {
			url, n := receiver(t, tc.answer)
			a := testSender(t, here, nil).send(t.Context(), to(url+"/?token=hush"), hello)
			if a.outcome != tc.outcome || a.status != tc.status || !strings.Contains(a.problem, tc.says) || a.retryAfter != tc.retry || n.Load() != 1 {
				t.Errorf("attempt is %+v, with %d requests", a, n.Load())
			}
			if strings.Contains(a.problem, secret) || strings.Contains(a.problem, "hush") || strings.Contains(a.problem, "127.0.0.1") {
				t.Errorf("it says too much: %q", a.problem)
			}
		})
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("a redirection was followed %d times", n)
	}
}

// TestAttemptsAreBounded: a receiver that takes its time, in whatever way, and the
// end of the broker.
func TestAttemptsAreBounded(t *testing.T) {
	stop := make(chan struct{})
	silent, _ := receiver(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	})
	defer close(stop)
	s := testSender(t, here, nil)
	s.timeout = 50 * time.Millisecond
	if a := s.send(t.Context(), to(silent), hello); a.outcome != timedOut || !strings.Contains(a.problem, "did not answer within") {
		t.Errorf("silence is %+v", a)
	}
	mute, err := net.Listen("tcp", "127.0.0.1:0") // accepts and never speaks TLS
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	if a := s.send(t.Context(), to("https://"+mute.Addr().String()), hello); a.outcome != timedOut {
		t.Errorf("no TLS is %+v", a)
	}
	s.timeout = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if a := s.send(ctx, to(silent), hello); a.outcome != canceled {
		t.Errorf("the end of the broker is %+v", a)
	}
}

// TestForbiddenReceiversGetNothing: neither by address nor by name, with
// certificates or without.
func TestForbiddenReceiversGetNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, p := range []Policy{{}, {AllowHTTP: true}, {AllowHTTP: true, AllowNetworks: prefixes("10.0.0.0/8")}} {
		s := testSender(t, p, nil)
		for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"} {
			for _, scheme := range []string{"https://", "http://"} {
				if a := s.send(t.Context(), to(scheme+host+":"+port), hello); a.outcome != forbidden || strings.Contains(a.problem, "127.0.0.1") {
					t.Errorf("%s%s: %+v", scheme, host, a)
				}
			}
		}
	}
	s := testSender(t, Policy{AllowHTTP: true}, nil)
	s.timeout = 5 * time.Second
	for _, host := range []string{"2130706433", "0x7f000001", "017700000001"} { // names to some, numbers to others
		if a := s.send(t.Context(), to("http://"+host+":"+port), hello); a.outcome == delivered {
			t.Errorf("%s: %+v", host, a)
		}
	}
	_ = l.Close()
	<-done
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

func TestCertificates(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // that a client does not trust it
	s.StartTLS()
	t.Cleanup(s.Close)
	if a := testSender(t, here, nil).send(t.Context(), to(s.URL), hello); a.outcome != unreachable || a.problem != "its certificate cannot be verified" {
		t.Errorf("a certificate of nobody is %+v", a)
	}
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	trusting := testSender(t, here, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12})
	for range 2 { // the second on the same connection
		if a := trusting.send(t.Context(), to(s.URL), hello); a.outcome != delivered {
			t.Errorf("a certificate that is trusted is %+v", a)
		}
	}
	plain, _ := receiver(t, func(http.ResponseWriter, *http.Request) {})
	if a := trusting.send(t.Context(), to("https://"+strings.TrimPrefix(plain, "http://")), hello); a.outcome != unreachable || a.problem != "it does not speak TLS as it should" {
		t.Errorf("no TLS is %+v", a)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "90": 90 * time.Second, "-5": 0, "soon": 0, "99999999999999": 0,
		"Wed, 02 Jan 2030 03:05:05 GMT": time.Minute, "Wed, 02 Jan 2030 03:00:00 GMT": 0,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}

// TestSchedule: it grows, has some chance in it, spans days and ends.
func TestSchedule(t *testing.T) {
	least, most := time.Duration(0), time.Duration(0)
	for n := 1; n <= len(delays); n++ {
		lo, hi := time.Duration(1<<62), time.Duration(0)
		for range 200 {
			d, ok := pauseAfter(n, 0)
			if !ok || d < delays[n-1] || d > delays[n-1]*5/4 {
				t.Fatalf("after %d attempts: %s, %t", n, d, ok)
			}
			lo, hi = min(lo, d), max(hi, d)
		}
		if lo == hi {
			t.Errorf("there is no chance in the pause after %d attempts", n)
		}
		least, most = least+delays[n-1], most+delays[n-1]*5/4
	}
	if least < 72*time.Hour || most > 100*time.Hour {
		t.Errorf("it spans %s to %s", least, most)
	}
	if _, ok := pauseAfter(len(delays)+1, 0); ok {
		t.Error("it never ends")
	}
	if d, _ := pauseAfter(1, time.Hour); d != time.Hour {
		t.Errorf("a receiver that asks for an hour is asked again after %s", d)
	}
	if d, _ := pauseAfter(1, 1000*time.Hour); d != maxRetryAfter {
		t.Errorf("a receiver that asks for a month is asked again after %s", d)
	}
}

func fail500(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }
