package vercel_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/conformance/simulator/vercel"
	"github.com/sandbar-dev/sandbar/plugins/providertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// caller speaks to a simulator as the vendor's own client does.
type caller struct {
	t      *testing.T
	url    string
	client *http.Client
	token  string
}

func start(t *testing.T) *caller {
	t.Helper()
	sim, err := vercel.New(t.Context(), vercel.Options{Guests: providertest.Guests(t)})
	if err != nil {
		t.Fatal(err)
	}
	c := &caller{
		t: t, url: providertest.Simulate(t, sim), client: &http.Client{Transport: &http.Transport{}, Timeout: 2 * time.Minute}, token: vercel.DefaultToken,
	}
	t.Cleanup(c.client.CloseIdleConnections)
	return c
}

// send returns the status and the body.
func (c *caller) send(method, path string, body any, header ...string) (int, http.Header, []byte) {
	c.t.Helper()
	var content io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		content = bytes.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			c.t.Fatal(err)
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, c.url+path, content)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.client.Do(req)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, resp.Header, text
}

type object map[string]any

// call expects a status, and returns the body as JSON.
func (c *caller) call(want int, method, path string, body any) object {
	c.t.Helper()
	status, _, text := c.send(method, path, body)
	if status != want {
		c.t.Fatalf("%s %s answers %d %s: want %d", method, path, status, text, want)
	}
	var out object
	if err := json.Unmarshal(text, &out); err != nil {
		c.t.Fatalf("%s %s answers %q: %v", method, path, text, err)
	}
	return out
}

// at follows names into a body.
func (o object) at(names ...string) any {
	var v any = map[string]any(o)
	for _, name := range names {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

func (o object) text(names ...string) string {
	text, _ := o.at(names...).(string)
	return text
}

const project = "projectId=" + vercel.DefaultProject

func (c *caller) create(more object) object {
	c.t.Helper()
	body := object{"projectId": vercel.DefaultProject, "networkPolicy": object{"mode": "deny-all"}, "persistent": false}
	for name, value := range more {
		body[name] = value
	}
	return c.call(200, "POST", "/v3/sandboxes", body)
}

// run runs a command to its end and returns its lines.
func (c *caller) run(session string, body object) (lines []object) {
	c.t.Helper()
	body["wait"], body["logs"] = true, true
	status, header, text := c.send("POST", "/v2/sandboxes/sessions/"+session+"/cmd", body)
	if status != 200 || header.Get("Content-Type") != "application/x-ndjson" {
		c.t.Fatalf("a command answers %d, %s: %s", status, header.Get("Content-Type"), text)
	}
	return parseLines(c.t, text)
}

func parseLines(t *testing.T, text []byte) (lines []object) {
	t.Helper()
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		var line object
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			t.Fatalf("line %q: %v", s.Text(), err)
		}
		lines = append(lines, line)
	}
	return lines
}

// output joins what came on a stream.
func output(lines []object, stream string) string {
	var out strings.Builder
	for _, line := range lines {
		if line["stream"] == stream {
			out.WriteString(line.text("data"))
		}
	}
	return out.String()
}
