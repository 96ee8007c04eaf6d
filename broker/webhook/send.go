package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/sandbar-dev/sandbar/broker/state"
)

const (
	// sendTimeout bounds one attempt, from the look-up of the name on. The
	// specification recommends 15 to 30 s.
	sendTimeout = 15 * time.Second
	// maxHeader and maxAnswer bound what is read of an answer: its headers, and so
	// much of its body that the connection can be used again.
	maxHeader = 16 << 10
	maxAnswer = 16 << 10
	// idleConns and idleTimeout bound connections that are kept for the next message.
	idleConns   = 64
	idleTimeout = 90 * time.Second
)

// Outcomes of attempts, as they are counted.
const (
	delivered   = "ok"
	refused     = "refused"     // a status that is no success
	timedOut    = "timeout"     // no answer in time
	unreachable = "unreachable" // no connection, or a broken one
	forbidden   = "forbidden"   // an address that the policy forbids
	unsigned    = "unsigned"    // its secret cannot be read
	canceled    = "canceled"    // the broker stopped; nothing is known
)

// attempt is what came of posting a message.
type attempt struct {
	outcome string
	// problem is why it was not delivered, for people. It holds nothing that the
	// receiver said.
	problem string
	// status is that of HTTP; 0 without an answer.
	status int
	// retryAfter is how long the receiver asks to wait.
	retryAfter time.Duration
	took       time.Duration
}

// sender posts messages.
type sender struct {
	client  *http.Client
	agent   string
	timeout time.Duration
}

// newSender returns a sender. tlsConfig may be nil. It is closed by closing idle
// connections.
func newSender(p Policy, version string, tlsConfig *tls.Config) *sender {
	dialer := &net.Dialer{ControlContext: p.control}
	return &sender{
		agent: "sandbar/" + version, timeout: sendTimeout,
		client: &http.Client{
			// A proxy would look names up where the address is not checked.
			Transport: &http.Transport{
				Proxy: nil, DialContext: dialer.DialContext, TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true,
				DisableCompression: true, MaxResponseHeaderBytes: maxHeader, MaxIdleConns: idleConns, IdleConnTimeout: idleTimeout,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// send posts a message once.
func (s *sender) send(ctx context.Context, w *state.Webhook, m message) attempt {
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	a := s.post(limited, w, m, began)
	if a.outcome != delivered && ctx.Err() != nil {
		a.outcome = canceled
	}
	a.took = time.Since(began)
	return a
}

func (s *sender) post(ctx context.Context, w *state.Webhook, m message, now time.Time) attempt {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.Body.GetUrl(), bytes.NewReader(m.body))
	if err != nil {
		return attempt{outcome: unreachable, problem: "its URL cannot be used"}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", s.agent)
	sign(req.Header, w, m, now)
	res, err := s.client.Do(req)
	if err != nil {
		return problemOf(err)
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, maxAnswer) // what it says does not matter
	a := attempt{outcome: delivered, status: res.StatusCode}
	if res.StatusCode < http.StatusOK || res.StatusCode >= http.StatusMultipleChoices {
		a.outcome, a.problem = refused, fmt.Sprintf("it answered with status %d", res.StatusCode)
		a.retryAfter = retryAfter(res.Header.Get("Retry-After"), now)
		if res.StatusCode < http.StatusBadRequest {
			a.problem += "; redirections are not followed"
		}
	}
	return a
}

// retryAfter reads the header: seconds, or a date.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
		return max(0, time.Duration(seconds)*time.Second)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// problemOf says why there was no answer, in words of our own: those of the error
// have the URL, addresses of the broker's network, and bytes of the answer.
func problemOf(err error) attempt {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	var timeout net.Error
	unreached := func(problem string) attempt { return attempt{outcome: unreachable, problem: problem} }
	switch {
	case errors.Is(err, errForbidden):
		return attempt{outcome: forbidden, problem: errForbidden.Error() + "; its configuration can allow it (webhooks.allow_networks)"}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return attempt{outcome: timedOut, problem: fmt.Sprintf("it did not answer within %s", sendTimeout)}
	case errors.As(err, &dns):
		return unreached("its name cannot be looked up")
	case errors.As(err, &cert):
		return unreached("its certificate cannot be verified")
	case errors.As(err, &alert), errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return unreached("it does not speak TLS as it should")
	case errors.Is(err, syscall.ECONNREFUSED):
		return unreached("the connection was refused")
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return unreached("there is no way to its address")
	default:
		return unreached("the connection broke before there was a whole answer")
	}
}
