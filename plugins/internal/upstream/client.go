package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	// maxAnswer bounds an answer that is read as a whole.
	maxAnswer = 16 << 20
	// maxRefusal bounds what is read of an answer that is no success.
	maxRefusal = 64 << 10
	// maxConns keeps a connection for each call that a busy sandbox has at once.
	maxConns = 64
	// dialTimeout is long enough for a far continent.
	dialTimeout = 10 * time.Second
)

// Options of a client.
type Options struct {
	// Token is sent as a bearer with every call and never shown.
	Token string
	// UserAgent names the caller.
	UserAgent string
	// Refusal reads the body of an answer that is no success, which may be cut; empty
	// results stand for what it does not say.
	Refusal func(body []byte) (code, message string)
	// InvalidToken reads the same, and says whether it is the token that is refused, and
	// not its rights. It is for vendors that do not say so with status 401; default: none.
	InvalidToken func(body []byte) bool
	// Header is of every request, unless a call has its own of the name.
	Header http.Header
}

// Client speaks to one vendor. Close it.
type Client struct {
	opts Options
	http *http.Client
}

// NewClient returns a client.
func NewClient(opts Options) *Client {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &Client{opts: opts, http: &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: dialTimeout,
			MaxIdleConnsPerHost: maxConns, IdleConnTimeout: time.Minute,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// HTTP is the client below, for protocols that begin as HTTP. Header is for it.
func (c *Client) HTTP() *http.Client { return c.http }

// Header is what every request carries.
func (c *Client) Header() http.Header {
	out := http.Header{"Authorization": {"Bearer " + c.opts.Token}, "User-Agent": {c.opts.UserAgent}}
	maps.Copy(out, c.opts.Header)
	return out
}

// Close frees connections that nothing uses.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// JSON sends in, unless it is nil, and reads the answer into out, unless it is nil.
func (c *Client) JSON(ctx context.Context, method, url string, in, out any) error {
	var body io.Reader
	header := http.Header{}
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(text)
		header.Set("Content-Type", "application/json")
	}
	resp, err := c.Send(ctx, method, url, body, header)
	if err != nil {
		return err
	}
	if out == nil {
		return Drain(resp)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return &LostError{Sent: true, Err: err}
	case len(text) > maxAnswer:
		return Undocumented(resp.StatusCode, "the answer is larger than "+strconv.Itoa(maxAnswer)+" bytes")
	}
	if err := json.Unmarshal(text, out); err != nil {
		return Undocumented(resp.StatusCode, "the answer is not the JSON that is documented: "+err.Error())
	}
	return nil
}

// Send returns a response that is a success; the caller closes its body. Its end,
// and not only its beginning, is bound to ctx.
func (c *Client) Send(ctx context.Context, method, url string, body io.Reader, header http.Header) (*http.Response, error) {
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.Header = c.Header()
	maps.Copy(req.Header, header)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, &LostError{Sent: connected.Load(), Err: unwrapURL(err)}
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, c.Refused(resp)
	}
	return resp, nil
}

// Refused reads an answer that is no success, and closes it.
func (c *Client) Refused(resp *http.Response) error {
	defer func() { _ = resp.Body.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	if err != nil {
		text = nil // the status alone says enough
	}
	code, message := c.opts.Refusal(text)
	e := newError(resp.StatusCode, resp.Header, code, message)
	e.InvalidToken = e.Status == http.StatusUnauthorized || (c.opts.InvalidToken != nil && c.opts.InvalidToken(text))
	return e
}

// Drain reads what is left of an answer, so that its connection can be used again.
func Drain(resp *http.Response) error {
	defer func() { _ = resp.Body.Close() }() // it was only read
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return &LostError{Sent: true, Err: err}
	}
	return nil
}
