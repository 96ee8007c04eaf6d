package vercel_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// visit asks for a host as a browser that knows its address would, and returns the
// connection and the first line of what comes.
func (c *caller) visit(host, more string) (net.Conn, *bufio.Reader, string) {
	c.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.url, "http://"))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() }) // some have ended
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		c.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "GET /path?q HTTP/1.1\r\nHost: %s\r\n%s\r\n", host, more); err != nil {
		c.t.Fatal(err)
	}
	from := bufio.NewReader(conn)
	line, err := from.ReadString('\n')
	if err != nil {
		c.t.Fatalf("%s answers %q, %v", host, line, err)
	}
	return conn, from, strings.TrimSpace(line)
}

// TestPorts: an address leads to its port for as long as the session runs, for
// requests and for what they become.
func TestPorts(t *testing.T) {
	c := start(t)
	made := c.create(object{"name": "With_Ports", "ports": []int{8080, 9090}})
	session := made.text("session", "id")
	routes, _ := made["routes"].([]any)
	if len(routes) != 2 || object(routes[0].(map[string]any)).text("url") != "https://with-ports-8080.vercel.run" {
		t.Fatalf("the routes are %v", routes)
	}
	c.call(200, "POST", "/v2/sandboxes/sessions/"+session+"/cmd", object{"command": "sandbar-probe", "args": []string{"echo", "8080"}})
	const upgrade = "Connection: Upgrade\r\nUpgrade: echo\r\n"
	var conn net.Conn
	var from *bufio.Reader
	for line := ""; line != "GET /path?q HTTP/1.1"; { // until it listens: it echoes
		if conn, from, line = c.visit("with-ports-8080.vercel.run:443", upgrade); line == "HTTP/1.1 502 Bad Gateway" {
			continue
		} else if line != "GET /path?q HTTP/1.1" {
			t.Fatalf("the port answers %q", line)
		}
	}
	for line := ""; line != "\r\n"; {
		var err error
		if line, err = from.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(conn, "more\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := from.ReadString('\n'); line != "more\n" {
		t.Errorf("what follows an upgrade comes back as %q, %v", line, err)
	}
	for host, want := range map[string]string{
		"with-ports-9090.vercel.run": "HTTP/1.1 502 Bad Gateway", "with-ports-7070.vercel.run": "HTTP/1.1 404 Not Found", "other.vercel.run": "HTTP/1.1 404 Not Found",
	} {
		if _, _, line := c.visit(host, "Connection: close\r\n"); line != want {
			t.Errorf("%s answers %q: want %q", host, line, want)
		}
	}
	c.call(200, "POST", "/v2/sandboxes/sessions/"+session+"/stop", nil)
	if rest, err := io.ReadAll(from); len(rest) != 0 {
		t.Errorf("after the session %q came, %v", rest, err)
	}
	if _, _, line := c.visit("with-ports-8080.vercel.run", "Connection: close\r\n"); line != "HTTP/1.1 410 Gone" {
		t.Errorf("after the session the port answers %q", line)
	}
	for _, ports := range [][]int{{0}, {65536}, {80, 80}, make([]int, 16)} {
		if status, _, text := c.send(http.MethodPost, "/v3/sandboxes", object{"projectId": "prj_simulated", "ports": ports}); status != 400 {
			t.Errorf("ports %v answer %d %s: want 400", ports, status, text)
		}
	}
}
