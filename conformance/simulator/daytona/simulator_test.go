package daytona_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/sandbar-dev/sandbar/conformance/simulator/daytona"
)

func TestSandboxes(t *testing.T) {
	c := start(t, daytona.Options{})
	made := c.want(200, "POST", "/api/sandbox", object{
		"name": "one", "labels": object{"team": "suite"}, "env": object{"A": "b"}, "networkBlockAll": true, "snapshot": "daytona-medium",
		"target": "eu", "ttlMinutes": 5, "autoStopInterval": 0,
	})
	shown := object{"name": "one", "cpu": 2.0, "memory": 4.0, "disk": 8.0, "target": "eu", "desiredState": "started", "autoStopInterval": 0.0}
	for name, want := range shown {
		if diff := cmp.Diff(want, made.said(name)); diff != "" {
			t.Errorf("%s (- want, + got):\n%s", name, diff)
		}
	}
	if made.said("autoDestroyAt") == nil || made.header.Get("X-RateLimit-Limit-sandbox-create") != "600" {
		t.Errorf("the answer lacks when it ends, or the rate limit: %s %v", made.body, made.header)
	}
	id, _ := made.said("id").(string)
	if got := c.want(200, "GET", "/api/sandbox/one", nil).said("id"); got != id {
		t.Errorf("its name finds %v: want %s", got, id)
	}
	c.want(200, "DELETE", "/api/sandbox/one", nil)
	c.want(404, "GET", "/api/sandbox/one", nil) // the name is free at once
	again := c.want(200, "POST", "/api/sandbox", object{"name": "one", "networkBlockAll": true})
	if again.said("id") == id {
		t.Errorf("a new sandbox has the old id")
	}
	c.until(id, "")
	if open := c.want(200, "POST", "/api/sandbox", object{}); open.header.Get("X-Simulator-Network") != "closed" {
		t.Error("a sandbox whose network is not blocked does not say that the simulator's is")
	}
}

func TestRefusals(t *testing.T) {
	c := start(t, daytona.Options{Quota: 1})
	id, toolbox := c.create(object{"name": "one"})
	for _, tc := range []struct {
		name         string
		status       int
		method, path string
		body         any
		says         string
	}{
		{"name taken", 409, "POST", "/api/sandbox", object{"name": "one"}, "already exists"},
		{"quota", 400, "POST", "/api/sandbox", object{"name": "two"}, "limit exceeded"},
		{"snapshot", 400, "POST", "/api/sandbox", object{"snapshot": "none"}, "not found"},
		{"resources", 400, "POST", "/api/sandbox", object{"cpu": 2}, "resources"},
		{"region", 404, "POST", "/api/sandbox", object{"target": "mars"}, "Region not found"},
		{"networks", 400, "POST", "/api/sandbox", object{"networkAllowList": "everything"}, "CIDR"},
		{"image", 501, "POST", "/api/sandbox", object{"buildInfo": object{}}, "no images"},
		{"no JSON", 400, "POST", "/api/sandbox", strings.NewReader("{"), "JSON"},
		{"absent", 404, "GET", "/api/sandbox/none", nil, "not found"},
		{"pause", 422, "POST", "/api/sandbox/" + id + "/pause", nil, "not supported"},
		{"fork", 422, "POST", "/api/sandbox/" + id + "/fork", object{}, "not supported"},
		{"started", 501, "POST", "/api/sandbox/" + id + "/resize", object{}, "no POST"},
		{"page", 400, "GET", "/api/sandbox?limit=201", nil, "limit"},
		{"cursor", 400, "GET", "/api/sandbox?cursor=!", nil, "cursor"},
		{"session", 404, "GET", toolbox + "/process/session/none", nil, "session not found"},
		{"line", 400, "POST", toolbox + "/process/execute", object{"command": " "}, "empty"},
		{"terminal", 501, "POST", toolbox + "/process/pty", object{}, "no POST"},
		{"file", 404, "GET", toolbox + "/files/download?path=none", nil, ""},
		{"toolbox", 404, "GET", "/toolbox/none/work-dir", nil, "not found"},
	} {
		a := c.send(tc.method, tc.path, tc.body)
		message, _ := a.said("message").(string)
		if a.status != tc.status || a.said("statusCode") != float64(tc.status) || !strings.Contains(message, tc.says) {
			t.Errorf("%s: %d %s: want %d, and a message with %q", tc.name, a.status, a.body, tc.status, tc.says)
		}
	}
	c.key = "another"
	c.want(401, "GET", "/api/sandbox/one", nil)
}

func TestRateLimit(t *testing.T) {
	c := start(t, daytona.Options{Creates: 2})
	c.create(nil)
	c.create(nil)
	a := c.want(429, "POST", "/api/sandbox", object{})
	if a.header.Get("Retry-After") == "" || a.header.Get("X-RateLimit-Remaining-sandbox-create") != "0" {
		t.Errorf("the headers are %v: want Retry-After, and none left", a.header)
	}
}

func TestListing(t *testing.T) {
	c := start(t, daytona.Options{})
	var ids []string
	for i := range 5 {
		id, _ := c.create(object{"labels": object{"owner": "a", "parity": []string{"even", "odd"}[i%2]}})
		ids = append(ids, id)
	}
	list := func(query url.Values) (found []string) {
		t.Helper()
		for {
			var page struct {
				Items []struct {
					ID string `json:"id"`
				} `json:"items"`
				NextCursor *string `json:"nextCursor"`
			}
			if err := json.Unmarshal(c.want(200, "GET", "/api/sandbox?"+query.Encode(), nil).body, &page); err != nil {
				t.Fatal(err)
			}
			for _, sb := range page.Items {
				found = append(found, sb.ID)
			}
			if page.NextCursor == nil {
				return found
			}
			query.Set("cursor", *page.NextCursor)
		}
	}
	if diff := cmp.Diff(ids, list(url.Values{"limit": {"2"}, "order": {"asc"}})); diff != "" {
		t.Errorf("oldest first, in pages (- want, + got):\n%s", diff)
	}
	newest := []string{ids[4], ids[2], ids[0]}
	if diff := cmp.Diff(newest, list(url.Values{"limit": {"1"}, "labels": {`{"parity":"even","owner":"a"}`}})); diff != "" {
		t.Errorf("newest first, by labels (- want, + got):\n%s", diff)
	}
	if got := list(url.Values{"labels": {`{"owner":"b"}`}}); len(got) > 0 {
		t.Errorf("somebody else's are %q", got)
	}
}

// TestTimes: a time to live ends a sandbox, and idleness stops one.
func TestTimes(t *testing.T) {
	c := start(t, daytona.Options{Minute: 200 * time.Millisecond})
	mortal, _ := c.create(object{"ttlMinutes": 1, "autoStopInterval": 0})
	c.until(mortal, "")
	idle, _ := c.create(object{"autoStopInterval": 1, "autoDeleteInterval": 0})
	c.until(idle, "")
	c.want(400, "POST", "/api/sandbox", object{"autoStopInterval": -1})
}

// TestStop: files stay, and processes do not.
func TestStop(t *testing.T) {
	c := start(t, daytona.Options{})
	id, toolbox := c.create(nil)
	c.want(200, "POST", toolbox+"/process/execute", object{"command": "echo kept > file"})
	c.want(200, "POST", "/api/sandbox/"+id+"/stop", nil)
	c.until(id, "stopped")
	c.want(400, "POST", toolbox+"/process/execute", object{"command": "true"})
	c.want(200, "POST", "/api/sandbox/"+id+"/start", nil)
	c.until(id, "started")
	if a := c.want(200, "GET", toolbox+"/files/download?path=file", nil); string(a.body) != "kept\n" {
		t.Errorf("the file has %q", a.body)
	}
}

func TestExecute(t *testing.T) {
	c := start(t, daytona.Options{})
	_, toolbox := c.create(object{"env": object{"FROM": "sandbox"}})
	for _, tc := range []struct {
		name   string
		body   object
		status int
		code   any
		says   string
	}{
		{"both streams", object{"command": `echo "$FROM $OWN"; echo err >&2; exit 7`, "envs": object{"OWN": "call"}}, 200, 7.0, "sandbox call\nerr\n"},
		{"folder", object{"command": "pwd", "cwd": "/tmp"}, 200, 0.0, "/tmp\n"},
		{"no folder", object{"command": "pwd", "cwd": "/none"}, 200, -1.0, ""},
		{"too long", object{"command": "sleep 600", "timeout": 1}, 408, nil, ""},
	} {
		a := c.want(tc.status, "POST", toolbox+"/process/execute", tc.body)
		if got, _ := a.said("result").(string); a.said("exitCode") != tc.code || tc.says != "" && got != tc.says {
			t.Errorf("%s: %s: want %v and %q", tc.name, a.body, tc.code, tc.says)
		}
	}
}

// follow reads a log to its end over a socket.
func (c *caller) follow(path string, header ...string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	h := http.Header{"Authorization": {"Bearer " + c.key}}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	conn, _, err := websocket.Dial(ctx, c.url+path, &websocket.DialOptions{HTTPClient: c.client, HTTPHeader: h})
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }() // it has ended
	var out strings.Builder
	for {
		_, data, err := conn.Read(ctx)
		if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
			return out.String()
		}
		if err != nil {
			c.t.Fatalf("after %q: %v", out.String(), err)
		}
		out.Write(data)
	}
}

func TestSessions(t *testing.T) {
	c := start(t, daytona.Options{})
	_, toolbox := c.create(nil)
	sessions := toolbox + "/process/session"
	c.want(201, "POST", sessions, object{"sessionId": "s"})
	c.want(409, "POST", sessions, object{"sessionId": "s"})
	const script = `printf 'out\000put\n'; echo err >&2; printf unended; exit 3`
	version := []string{"X-Daytona-SDK-Version", "0.205.1"}
	done := c.want(200, "POST", sessions+"/s/exec", object{"command": script}, version...)
	ended := object{"exitCode": 3.0, "stdout": "output\nunended\n", "stderr": "err\n"}
	for name, want := range ended {
		if diff := cmp.Diff(want, done.said(name)); diff != "" {
			t.Errorf("%s (- want, + got):\n%s", name, diff)
		}
	}
	if got := c.want(200, "POST", sessions+"/s/exec", object{"command": "echo plain"}); got.said("output") != "plain\n" || got.said("stdout") != nil {
		t.Errorf("a client without a version is answered %s", got.body)
	}
	async := c.want(202, "POST", sessions+"/s/exec", object{"command": "echo first; sleep 0.2; echo last", "runAsync": true})
	id, _ := async.said("cmdId").(string)
	command := sessions + "/s/command/" + id
	if got := c.follow(command + "/logs?follow=true"); got != "first\nlast\n" {
		t.Errorf("the log is %q", got)
	}
	if got := c.follow(command+"/logs?follow=true", version...); got != "\x01\x01\x01first\n\x01\x01\x01last\n" {
		t.Errorf("with a version the log is %q", got)
	}
	if got := c.want(200, "GET", command, nil).said("exitCode"); got != 0.0 {
		t.Errorf("it ended with %v", got)
	}
	if got := c.want(200, "GET", command+"/logs", nil); string(got.body) != "first\nlast\n" {
		t.Errorf("what was logged is %q", got.body)
	}
	endless := c.want(202, "POST", sessions+"/s/exec", object{"command": "sleep 600", "runAsync": true}).said("cmdId")
	if endless == nil {
		t.Error("there is no cmdId")
	}
	c.want(204, "DELETE", sessions+"/s", nil)
	c.want(404, "GET", sessions+"/s", nil)
}

func TestFiles(t *testing.T) {
	c := start(t, daytona.Options{})
	_, toolbox := c.create(nil)
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	content := "every\x00byte\xff"
	for _, part := range [][2]string{{"files[0].path", "/tmp/a/b c.bin"}, {"files[0].file", content}} {
		w, err := form.CreateFormField(part[0])
		if err == nil {
			_, err = w.Write([]byte(part[1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	c.want(200, "POST", toolbox+"/files/bulk-upload", &body, "Content-Type", form.FormDataContentType())
	if a := c.want(200, "GET", toolbox+"/files/download?path="+url.QueryEscape("/tmp/a/b c.bin"), nil); string(a.body) != content {
		t.Errorf("it has %q: want %q", a.body, content)
	}
	a := c.want(200, "POST", toolbox+"/files/bulk-download", object{"paths": []string{"/tmp/a/b c.bin", "/none"}})
	parts := multipart.NewReader(bytes.NewReader(a.body), "DAYTONA-FILE-BOUNDARY")
	for _, want := range []string{"file", "error"} {
		part, err := parts.NextPart()
		if err != nil || part.FormName() != want {
			t.Fatalf("there is a part %v, %v: want %s", part, err, want)
		}
	}
	c.want(201, "POST", toolbox+"/files/folder?path=/tmp/x/y&mode=755", nil)
	c.want(400, "POST", toolbox+"/files/bulk-upload", strings.NewReader("no form"))
}

func TestFaults(t *testing.T) {
	c := start(t, daytona.Options{})
	c.want(200, "POST", "/_simulator/faults", object{"path": "/sandbox", "kind": "status", "status": 429, "retryAfter": 3})
	if a := c.want(429, "GET", "/api/sandbox", nil); a.header.Get("Retry-After") != "3" {
		t.Errorf("the headers are %v", a.header)
	}
	c.want(200, "GET", "/api/sandbox", nil)
	c.want(400, "POST", "/_simulator/faults", object{"path": "/sandbox", "kind": "odd"})
	c.want(200, "DELETE", "/_simulator/faults", nil)
	c.want(404, "POST", "/_simulator/evict", object{"name": "none"})
	id, toolbox := c.create(object{"name": "doomed"})
	c.want(200, "POST", "/_simulator/evict", object{"name": "doomed"})
	c.until(id, "error")
	c.want(400, "GET", toolbox+"/work-dir", nil)
	c.want(200, "DELETE", "/api/sandbox/doomed", nil)
	c.until(id, "")
}

// TestPreview: a port is reached by who has the token, which what listens there does not
// see. What listens is an echo, so that the answer is the request.
func TestPreview(t *testing.T) {
	c := start(t, daytona.Options{})
	id, toolbox := c.create(nil)
	c.want(201, "POST", toolbox+"/process/session", object{"sessionId": "s"})
	c.want(202, "POST", toolbox+"/process/session/s/exec", object{"command": "sandbar-probe echo 8080", "runAsync": true})
	preview := c.want(200, "GET", "/api/sandbox/"+id+"/ports/8080/preview-url", nil)
	address, _ := preview.said("url").(string)
	token, _ := preview.said("token").(string)
	u, err := url.Parse(address)
	if err != nil || !strings.HasPrefix(u.Host, "8080-"+id+".localhost:") {
		t.Fatalf("the address is %q", address)
	}
	ask := func(request, until string) string {
		t.Helper()
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(c.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }() // it was read
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		var got []byte
		for buf := make([]byte, 4096); !bytes.Contains(got, []byte(until)); {
			n, err := conn.Read(buf)
			got = append(got, buf[:n]...)
			if err != nil {
				break
			}
		}
		return string(got)
	}
	head := "GET /a?b=c%s HTTP/1.1\r\nHost: " + u.Host + "\r\n%s\r\n"
	for _, tc := range []struct{ name, query, header, begins string }{
		{"nothing", "", "", "HTTP/1.1 401 "},
		{"a wrong token", "", "X-Daytona-Preview-Token: wrong\r\n", "HTTP/1.1 401 "},
		{"the token", "", "X-Daytona-Preview-Token: " + token + "\r\n", "GET /a?b=c HTTP/1.1\r\n"},
		{"a query", "&DAYTONA_SANDBOX_AUTH_KEY=" + token, "", "GET /a?b=c HTTP/1.1\r\n"},
		{"the key", "", "Authorization: Bearer " + daytona.DefaultKey + "\r\n", "GET /a?b=c HTTP/1.1\r\n"},
	} {
		var got string
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // until it listens
			if got = ask(fmt.Sprintf(head, tc.query, tc.header), "\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 502 ") || time.Now().After(deadline) {
				break
			}
		}
		if !strings.HasPrefix(got, tc.begins) || strings.Contains(got, token) || strings.Contains(got, daytona.DefaultKey) {
			t.Errorf("with %s the answer is %q: want one that begins with %q, and no token in it", tc.name, got, tc.begins)
		}
	}
	post := "POST /a HTTP/1.1\r\nHost: " + u.Host + "\r\nX-Daytona-Preview-Token: " + token + "\r\nContent-Length: 4\r\n\r\nbody"
	if got := ask(post, "\r\n\r\nbody"); !strings.HasPrefix(got, "POST /a HTTP/1.1\r\n") || !strings.HasSuffix(got, "\r\n\r\nbody") {
		t.Errorf("a request with a body is answered with %q: want all of it", got)
	}
	c.want(400, "GET", "/api/sandbox/"+id+"/ports/65536/preview-url", nil)
	c.want(404, "GET", "/api/sandbox/none/ports/80/preview-url", nil)
}
