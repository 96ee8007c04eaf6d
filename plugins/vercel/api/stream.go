package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"

	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
)

// maxLine bounds one line of a stream; the vendor's lines hold what one read of a
// pipe gave.
const maxLine = 16 << 20

// Event is one line of a stream: a command as it is, or some of its output.
type Event struct {
	// Command is set in the first line of a run and in its last, which has an exit
	// code.
	Command *Command
	// Stream is stdout or stderr, and Text what came on it.
	Stream, Text string
}

// Stream is the lines of a running command. It is for one reader; Close may come
// from anywhere.
type Stream struct {
	body   io.ReadCloser
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

// Run starts a command and returns what it prints. ctx is for the start: the
// stream lives until Close. Closing it does not end the command.
func (c *Client) Run(ctx context.Context, session string, req RunRequest) (*Stream, error) {
	req.Wait, req.Logs = true, true
	if req.Env == nil {
		req.Env = map[string]string{}
	}
	body, err := json.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	return c.stream(ctx, http.MethodPost, sessionPath(session, "cmd"), body)
}

// Logs returns what a command printed, from its first byte, and goes on with what
// it prints.
func (c *Client) Logs(ctx context.Context, session, command string) (*Stream, error) {
	return c.stream(ctx, http.MethodGet, sessionPath(session, "cmd/"+url.PathEscape(command)+"/logs"), nil)
}

// Kill sends a signal, by its number on Linux, to a command of the vendor's.
func (c *Client) Kill(ctx context.Context, session, command string, signal int) error {
	return c.call(ctx, http.MethodPost, sessionPath(session, "cmd/"+url.PathEscape(command)+"/kill"), nil, map[string]int{"signal": signal}, nil)
}

func (c *Client) stream(ctx context.Context, method, path string, body []byte) (*Stream, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	var content io.Reader
	if body != nil {
		content = bytes.NewReader(body)
	}
	resp, err := c.http.Send(life, method, c.url(path, nil), content, nil)
	switch {
	case err != nil:
		stop()
		cancel()
		if ctx.Err() != nil {
			var lost *upstream.LostError
			return nil, &upstream.LostError{Sent: !errors.As(err, &lost) || lost.Sent, Err: ctx.Err()}
		}
		return nil, err
	case !stop():
		cancel()
		_ = resp.Body.Close() // ctx has ended it
		return nil, &upstream.LostError{Sent: true, Err: ctx.Err()}
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "application/x-ndjson" {
		cancel()
		_ = resp.Body.Close() // nobody wants it
		return nil, upstream.Undocumented(resp.StatusCode, "the answer is "+resp.Header.Get("Content-Type")+": want application/x-ndjson")
	}
	lines := bufio.NewScanner(resp.Body)
	const firstRoom = 64 << 10
	lines.Buffer(make([]byte, 0, firstRoom), maxLine)
	return &Stream{body: resp.Body, lines: lines, cancel: cancel}, nil
}

// Next returns the next line. io.EOF is the vendor's end of the stream, which says
// nothing about the command.
func (s *Stream) Next() (Event, error) {
	for s.lines.Scan() {
		if len(s.lines.Bytes()) > 0 {
			return decode(s.lines.Bytes())
		}
	}
	if err := s.lines.Err(); err != nil {
		return Event{}, fmt.Errorf("read the stream: %w", err)
	}
	return Event{}, io.EOF
}

func decode(text []byte) (Event, error) {
	var line struct {
		Command *Command        `json:"command"`
		Stream  string          `json:"stream"`
		Data    json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(text, &line); err != nil {
		return Event{}, fmt.Errorf("read the stream: a line is not the JSON that is documented: %w", err)
	}
	switch {
	case line.Command != nil:
		return Event{Command: line.Command}, nil
	case line.Stream == "error":
		var e struct{ Code, Message string }
		if err := json.Unmarshal(line.Data, &e); err != nil {
			return Event{}, fmt.Errorf("read the stream: an error that is not as documented: %w", err)
		}
		return Event{}, fmt.Errorf("the vendor broke the stream off: %s: %s", e.Code, e.Message)
	}
	e := Event{Stream: line.Stream}
	if err := json.Unmarshal(line.Data, &e.Text); err != nil {
		return Event{}, fmt.Errorf("read the stream: output that is no text: %w", err)
	}
	return e, nil
}

// Close ends the stream, and a Next that waits. It can be called again.
func (s *Stream) Close() {
	s.cancel()
	_ = s.body.Close() // it was only read
}
