package daytona_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/conformance/simulator/daytona"
	"github.com/sandbar-dev/sandbar/plugins/providertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// caller speaks to a simulator as the vendor's own clients do.
type caller struct {
	t      *testing.T
	url    string
	client *http.Client
	key    string
}

func start(t *testing.T, opts daytona.Options) *caller {
	t.Helper()
	opts.Guests = providertest.Guests(t)
	sim, err := daytona.New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	c := &caller{
		t: t, url: providertest.Simulate(t, sim), client: &http.Client{Transport: &http.Transport{}, Timeout: 2 * time.Minute}, key: daytona.DefaultKey,
	}
	t.Cleanup(c.client.CloseIdleConnections)
	return c
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// said is a field of the answer, which is an object.
func (a answer) said(name string) any {
	var all map[string]any
	_ = json.Unmarshal(a.body, &all) // there is nothing then
	return all[name]
}

func (c *caller) send(method, path string, body any, header ...string) answer {
	c.t.Helper()
	var content io.Reader
	switch b := body.(type) {
	case nil:
	case io.Reader:
		content = b
	default:
		text, err := json.Marshal(b)
		if err != nil {
			c.t.Fatal(err)
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, content)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, text}
}

// want sends, and checks the status.
func (c *caller) want(status int, method, path string, body any, header ...string) answer {
	c.t.Helper()
	a := c.send(method, path, body, header...)
	if a.status != status {
		c.t.Fatalf("%s %s answers %d: %s; want %d", method, path, a.status, a.body, status)
	}
	return a
}

type object = map[string]any

// create makes a sandbox, and returns its id and where its toolbox is.
func (c *caller) create(more object) (id, toolbox string) {
	c.t.Helper()
	body := object{"networkBlockAll": true}
	for name, v := range more {
		body[name] = v
	}
	id, _ = c.want(200, "POST", "/api/sandbox", body).said("id").(string)
	if got := c.want(200, "GET", "/api/sandbox/"+id, nil).said("state"); got != "started" {
		c.t.Fatalf("sandbox %s is %v: want started", id, got)
	}
	return id, "/toolbox/" + id
}

// until looks until a sandbox's state is one of those; "" is that there is none.
func (c *caller) until(id string, states ...string) {
	c.t.Helper()
	var state string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		state, _ = c.send("GET", "/api/sandbox/"+id, nil).said("state").(string)
		for _, s := range states {
			if s == state {
				return
			}
		}
	}
	c.t.Fatalf("sandbox %s is %q: want one of %q", id, state, states)
}
