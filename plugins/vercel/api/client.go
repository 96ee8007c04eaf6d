package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// DefaultBaseURL is where the vendor documents the API.
	DefaultBaseURL = "https://api.vercel.com"
	// maxAnswer bounds an answer that is read as a whole: a page of a hundred
	// sandboxes with full tags takes a tenth of it.
	maxAnswer = 8 << 20
	// maxConns keeps a connection for each stream that a sandbox may have open at
	// once, and for the calls beside them.
	maxConns = 64
	// dialTimeout is long enough for a far continent.
	dialTimeout = 10 * time.Second
)

// Options of a client.
type Options struct {
	// BaseURL is https://, or http:// for a simulator; a path in it stays in front.
	BaseURL string
	// Token is sent with every call and never shown.
	Token string
	// Team and Project say whose sandboxes they are.
	Team, Project string
	// UserAgent names the caller.
	UserAgent string
}

// Client speaks to the vendor.
type Client struct {
	opts Options
	base *url.URL
	http *http.Client
}

// New returns a client. Close it.
func New(opts Options) (*Client, error) {
	base, err := url.Parse(strings.TrimSuffix(opts.BaseURL, "/"))
	if err != nil {
		return nil, fmt.Errorf("base URL: %w", err)
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	transport := &http.Transport{
		DialContext: dialer.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: dialTimeout,
		MaxIdleConnsPerHost: maxConns, IdleConnTimeout: time.Minute,
	}
	return &Client{opts: opts, base: base, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close frees connections that nothing uses.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// CreateSandbox makes a sandbox and its first session.
func (c *Client) CreateSandbox(ctx context.Context, req CreateRequest) (*SandboxAnswer, error) {
	req.ProjectID = c.opts.Project
	// The vendor's own client chooses the version by whether there is a runtime.
	path := "/v3/sandboxes"
	if req.Runtime != "" {
		path = "/v2/sandboxes"
	}
	out := &SandboxAnswer{}
	return out, c.call(ctx, http.MethodPost, path, nil, req, out)
}

// Sandbox returns one by name. It never resumes it.
func (c *Client) Sandbox(ctx context.Context, name string) (*SandboxAnswer, error) {
	out := &SandboxAnswer{}
	return out, c.call(ctx, http.MethodGet, "/v2/sandboxes/"+url.PathEscape(name), url.Values{"projectId": {c.opts.Project}}, nil, out)
}

// Sandboxes lists a page.
func (c *Client) Sandboxes(ctx context.Context, q ListQuery) (*Page, error) {
	query := url.Values{"project": {c.opts.Project}, "limit": {strconv.Itoa(q.Limit)}, "sortBy": {"createdAt"}, "sortOrder": {"asc"}}
	if q.Cursor != "" {
		query.Set("cursor", q.Cursor)
	}
	if q.TagKey != "" {
		query.Set("tags", q.TagKey+":"+q.TagValue)
	}
	out := &Page{}
	return out, c.call(ctx, http.MethodGet, "/v2/sandboxes", query, nil, out)
}

// ResumeSandbox is Sandbox, and starts a session if the last one has ended.
func (c *Client) ResumeSandbox(ctx context.Context, name string) (*SandboxAnswer, error) {
	query := url.Values{"projectId": {c.opts.Project}, "resume": {"true"}}
	out := &SandboxAnswer{}
	return out, c.call(ctx, http.MethodGet, "/v2/sandboxes/"+url.PathEscape(name), query, nil, out)
}

// UpdateSandbox changes what is set in req.
func (c *Client) UpdateSandbox(ctx context.Context, name string, req UpdateRequest) error {
	return c.call(ctx, http.MethodPatch, "/v2/sandboxes/"+url.PathEscape(name), url.Values{"projectId": {c.opts.Project}}, req, nil)
}

// DeleteSandbox removes a sandbox with all it has; one that runs is stopped.
func (c *Client) DeleteSandbox(ctx context.Context, name string) error {
	query := url.Values{"projectId": {c.opts.Project}, "deleteOrphanSnapshots": {"true"}}
	return c.call(ctx, http.MethodDelete, "/v2/sandboxes/"+url.PathEscape(name), query, nil, nil)
}

// StopSession ends a session; the disk of a sandbox that is persistent is kept.
func (c *Client) StopSession(ctx context.Context, session string) error {
	return c.call(ctx, http.MethodPost, sessionPath(session, "stop"), nil, nil, nil)
}

// ExtendTimeout moves the end of a session back by some time.
func (c *Client) ExtendTimeout(ctx context.Context, session string, by time.Duration) (*Session, error) {
	var out struct {
		Session Session `json:"session"`
	}
	body := map[string]int64{"duration": by.Milliseconds()}
	err := c.call(ctx, http.MethodPost, sessionPath(session, "extend-timeout"), nil, body, &out)
	return &out.Session, err
}

// WriteFiles unpacks a tar.gz below a folder.
func (c *Client) WriteFiles(ctx context.Context, session, dir string, archive []byte) error {
	resp, err := c.send(ctx, http.MethodPost, sessionPath(session, "fs/write"), nil, bytes.NewReader(archive), //nolint:bodyclose // drained closes it
		http.Header{"Content-Type": {"application/gzip"}, "X-Cwd": {dir}})
	if err != nil {
		return err
	}
	return drained(resp)
}

// ReadFile returns the content of a file, which the caller closes. A file that is not
// there is an *Error of status 404. The content, and not only its beginning, is bound
// to ctx.
func (c *Client) ReadFile(ctx context.Context, session, name string) (io.ReadCloser, error) {
	body, err := json.Marshal(map[string]string{"path": name})
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	resp, err := c.send(ctx, http.MethodPost, sessionPath(session, "fs/read"), nil, bytes.NewReader(body),
		http.Header{"Content-Type": {"application/json"}})
	if err != nil {
		return nil, err
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "application/octet-stream" {
		_ = resp.Body.Close() // nobody wants it
		return nil, &Error{Status: resp.StatusCode, Code: codeProtocol, Message: "the answer is " + resp.Header.Get("Content-Type") + ": want application/octet-stream"}
	}
	return resp.Body, nil
}

func sessionPath(session, rest string) string {
	return "/v2/sandboxes/sessions/" + url.PathEscape(session) + "/" + rest
}

// call sends in as JSON and decodes the answer into out, where they are not nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	// The vendor's own client says JSON even where there is no body.
	resp, err := c.send(ctx, method, path, query, body, http.Header{"Content-Type": {"application/json"}})
	if err != nil {
		return err
	}
	if out == nil {
		return drained(resp)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return &LostError{Sent: true, Err: err}
	case len(text) > maxAnswer:
		return &Error{Status: resp.StatusCode, Code: codeProtocol, Message: "the answer is larger than " + strconv.Itoa(maxAnswer) + " bytes"}
	}
	if err := json.Unmarshal(text, out); err != nil {
		return &Error{Status: resp.StatusCode, Code: codeProtocol, Message: "the answer is not the JSON that is documented: " + err.Error()}
	}
	return nil
}

// send returns a response that is a success; the caller closes its body. Its end,
// and not only its beginning, is bound to ctx.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, body io.Reader, header http.Header) (*http.Response, error) {
	u := *c.base
	u.Path += path
	if query == nil {
		query = url.Values{}
	}
	query.Set("teamId", c.opts.Team)
	u.RawQuery = query.Encode()
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.Header = header
	req.Header.Set("Authorization", "Bearer "+c.opts.Token)
	req.Header.Set("User-Agent", c.opts.UserAgent)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, &LostError{Sent: connected.Load(), Err: unwrapURL(err)}
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, refusal(resp)
	}
	return resp, nil
}

// drained reads what is left of an answer, so that its connection can be used
// again.
func drained(resp *http.Response) error {
	defer func() { _ = resp.Body.Close() }() // it was only read
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return &LostError{Sent: true, Err: err}
	}
	return nil
}
