package api

import (
	"bytes"
	"context"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
)

func (at Place) url(path string) string {
	return strings.TrimSuffix(at.Proxy, "/") + "/" + url.PathEscape(at.ID) + path
}

func sessionPath(session string) string { return "/process/session/" + url.PathEscape(session) }

func commandPath(session, command string) string {
	return sessionPath(session) + "/command/" + url.PathEscape(command)
}

// CreateSession starts a shell that commands can be given to. One whose name is
// taken is refused with 409.
func (c *Client) CreateSession(ctx context.Context, at Place, session string) error {
	return c.http.JSON(ctx, http.MethodPost, at.url("/process/session"), map[string]string{"sessionId": session}, nil)
}

// DeleteSession ends a session's shell and what descends from it.
func (c *Client) DeleteSession(ctx context.Context, at Place, session string) error {
	return c.http.JSON(ctx, http.MethodDelete, at.url(sessionPath(session)), nil, nil)
}

// Run gives a session's shell a line to run, and returns the id of the command.
func (c *Client) Run(ctx context.Context, at Place, session, line string) (string, error) {
	var out struct {
		ID string `json:"cmdId"`
	}
	err := c.http.JSON(ctx, http.MethodPost, at.url(sessionPath(session)+"/exec"), map[string]any{"command": line, "runAsync": true}, &out)
	if err == nil && out.ID == "" {
		err = upstream.Undocumented(http.StatusAccepted, "the answer has no cmdId")
	}
	return out.ID, err
}

// Command returns a command of a session.
func (c *Client) Command(ctx context.Context, at Place, session, command string) (*Command, error) {
	out := &Command{}
	return out, c.http.JSON(ctx, http.MethodGet, at.url(commandPath(session, command)), nil, out)
}

// Execute runs a line in a shell of its own to its end.
func (c *Client) Execute(ctx context.Context, at Place, line string, timeout time.Duration) (*Result, error) {
	out := &Result{}
	in := map[string]any{"command": line, "timeout": int64(timeout / time.Second)}
	return out, c.http.JSON(ctx, http.MethodPost, at.url("/process/execute"), in, out)
}

// Upload writes a file, and makes the folder that it is in. It is written as it
// comes.
func (c *Client) Upload(ctx context.Context, at Place, name string, content []byte) error {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	// Nothing below fails: it is written to memory.
	_ = form.WriteField("files[0].path", name)
	part, _ := form.CreateFormFile("files[0].file", "content")
	_, _ = part.Write(content)
	_ = form.Close()
	header := http.Header{"Content-Type": {form.FormDataContentType()}}
	resp, err := c.http.Send(ctx, http.MethodPost, at.url("/files/bulk-upload"), &body, header) //nolint:bodyclose // Drain does
	if err != nil {
		return err
	}
	return upstream.Drain(resp)
}

// Download opens a file, following links. ctx is for all of it; the caller closes it.
func (c *Client) Download(ctx context.Context, at Place, name string) (io.ReadCloser, error) {
	resp, err := c.http.Send(ctx, http.MethodGet, at.url("/files/download?"+url.Values{"path": {name}}.Encode()), nil, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
