package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
)

// DefaultBaseURL is where the vendor documents the API.
const DefaultBaseURL = "https://api.vercel.com"

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
	http *upstream.Client
}

// New returns a client. Close it.
func New(opts Options) *Client {
	return &Client{opts: opts, http: upstream.NewClient(upstream.Options{
		Token: opts.Token, UserAgent: opts.UserAgent, Refusal: refusal, InvalidToken: invalidToken,
		// The vendor's own client says JSON even where there is no body.
		Header: http.Header{"Content-Type": {"application/json"}},
	})}
}

// refused is the body of an answer that is no success.
type refused struct {
	Error struct {
		Code         string `json:"code"`
		Message      string `json:"message"`
		InvalidToken bool   `json:"invalidToken"`
	} `json:"error"`
}

func refusal(body []byte) (code, message string) {
	var said refused
	if json.Unmarshal(body, &said) != nil || said.Error.Code == "" {
		return "", ""
	}
	return said.Error.Code, said.Error.Message
}

func invalidToken(body []byte) bool {
	var said refused
	return json.Unmarshal(body, &said) == nil && said.Error.InvalidToken
}

// Close frees connections that nothing uses.
func (c *Client) Close() { c.http.Close() }

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
	header := http.Header{"Content-Type": {"application/gzip"}, "X-Cwd": {dir}}
	resp, err := c.http.Send(ctx, http.MethodPost, c.url(sessionPath(session, "fs/write"), nil), bytes.NewReader(archive), header) //nolint:bodyclose // Drain does
	if err != nil {
		return err
	}
	return upstream.Drain(resp)
}

// ReadFile returns the content of a file, which the caller closes. A file that is not
// there is an *upstream.Error of status 404. The content, and not only its beginning, is bound
// to ctx.
func (c *Client) ReadFile(ctx context.Context, session, name string) (io.ReadCloser, error) {
	body, err := json.Marshal(map[string]string{"path": name})
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	resp, err := c.http.Send(ctx, http.MethodPost, c.url(sessionPath(session, "fs/read"), nil), bytes.NewReader(body), nil)
	if err != nil {
		return nil, err
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "application/octet-stream" {
		_ = resp.Body.Close() // nobody wants it
		return nil, upstream.Undocumented(resp.StatusCode, "the answer is "+resp.Header.Get("Content-Type")+": want application/octet-stream")
	}
	return resp.Body, nil
}

func sessionPath(session, rest string) string {
	return "/v2/sandboxes/sessions/" + url.PathEscape(session) + "/" + rest
}

// url is the address of a call, for the team.
func (c *Client) url(path string, query url.Values) string {
	if query == nil {
		query = url.Values{}
	}
	query.Set("teamId", c.opts.Team)
	return strings.TrimSuffix(c.opts.BaseURL, "/") + path + "?" + query.Encode()
}

// call sends in as JSON and decodes the answer into out, where they are not nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	return c.http.JSON(ctx, method, c.url(path, query), in, out)
}
