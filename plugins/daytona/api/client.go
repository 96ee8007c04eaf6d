package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
)

// DefaultBaseURL is where the vendor serves the control API.
const DefaultBaseURL = "https://app.daytona.io/api"

// Options of a client.
type Options struct {
	// BaseURL is https://, or http:// for a simulator; a path in it stays in front.
	BaseURL string
	// Key is an API key. It is sent with every call, to the toolbox too, and never
	// shown.
	Key string
	// UserAgent names the caller.
	UserAgent string
}

// Client speaks to the vendor.
type Client struct {
	base string
	http *upstream.Client
}

// New returns a client. Close it.
func New(opts Options) *Client {
	return &Client{
		base: strings.TrimSuffix(opts.BaseURL, "/"),
		http: upstream.NewClient(upstream.Options{Token: opts.Key, UserAgent: opts.UserAgent, Refusal: refusal}),
	}
}

// refusal reads the two shapes that errors have: of the control API, where error is
// the text of the status, and of the toolbox, where code is a word.
func refusal(body []byte) (code, message string) {
	var said struct {
		Code    string `json:"code"`
		Error   string `json:"error"`
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &said) != nil {
		return "", ""
	}
	if said.Code == "" {
		said.Code = strings.ReplaceAll(strings.ToLower(said.Error), " ", "_")
	}
	return said.Code, said.Message
}

// Close frees connections that nothing uses.
func (c *Client) Close() { c.http.Close() }

// CreateSandbox makes a sandbox. The vendor answers when it runs, or after half a
// minute; the state that it answers is not always the newest.
func (c *Client) CreateSandbox(ctx context.Context, req CreateRequest) (*Sandbox, error) {
	out := &Sandbox{}
	return out, c.http.JSON(ctx, http.MethodPost, c.base+"/sandbox", req, out)
}

// Sandbox returns one by id or name.
func (c *Client) Sandbox(ctx context.Context, idOrName string) (*Sandbox, error) {
	out := &Sandbox{}
	return out, c.http.JSON(ctx, http.MethodGet, c.base+"/sandbox/"+url.PathEscape(idOrName), nil, out)
}

// Sandboxes lists a page.
func (c *Client) Sandboxes(ctx context.Context, q ListQuery) (*Page, error) {
	query := url.Values{"limit": {strconv.Itoa(q.Limit)}, "sort": {"createdAt"}, "order": {"asc"}}
	if q.Cursor != "" {
		query.Set("cursor", q.Cursor)
	}
	if len(q.Labels) > 0 {
		text, err := json.Marshal(q.Labels)
		if err != nil {
			return nil, fmt.Errorf("encode labels: %w", err)
		}
		query.Set("labels", string(text))
	}
	out := &Page{}
	return out, c.http.JSON(ctx, http.MethodGet, c.base+"/sandbox?"+query.Encode(), nil, out)
}

// DeleteSandbox begins to destroy one. Its name is free at once, and it is found by
// its id until it is destroyed.
func (c *Client) DeleteSandbox(ctx context.Context, id string) error {
	return c.http.JSON(ctx, http.MethodDelete, c.base+"/sandbox/"+url.PathEscape(id), nil, nil)
}

// Preview returns where a port is reached from outside, and the token that opens it.
func (c *Client) Preview(ctx context.Context, id string, port uint32) (*Preview, error) {
	out := &Preview{}
	path := "/sandbox/" + url.PathEscape(id) + "/ports/" + strconv.FormatUint(uint64(port), 10) + "/preview-url"
	return out, c.http.JSON(ctx, http.MethodGet, c.base+path, nil, out)
}
