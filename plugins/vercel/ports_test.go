package vercel_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/providertest"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// TestPortURL: the vendor's address of a port leads to the sandbox, and there is none
// for a port that the sandbox was not made with.
func TestPortURL(t *testing.T) {
	v := newVendor(t)
	p := newPlugin(t, v, "", nil)
	req := newRequest()
	req.Spec.Ports = []uint32{8080, 9090}
	box := p.Create(req)
	p.Start(box, "sandbar-probe", "echo", "8080")
	answer, err := p.GetPortURL(p.Ctx, &providerv1.GetPortURLRequest{Sandbox: box, Port: 8080})
	if err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(answer.GetUrl())
	if err != nil || at.Scheme != "https" || len(answer.GetHeaders()) != 0 {
		t.Fatalf("the address is %v, %v: want https and nothing that opens it", answer, err)
	}
	var said string
	for deadline := time.Now().Add(patience); !strings.Contains(said, "GET /hello"); { // until it listens
		if time.Now().After(deadline) {
			t.Fatalf("the port at %s answers %q: want what it was asked", at.Host, said)
		}
		said = visit(t, v, at.Host)
	}
	if !strings.Contains(said, "Host: "+at.Host) {
		t.Errorf("the port was asked %q: want for host %s", said, at.Host)
	}
	if said := visit(t, v, strings.Replace(at.Host, "8080", "9090", 1)); !strings.Contains(said, "502 Bad Gateway") {
		t.Errorf("a port that nothing listens on answers %q: want 502", said)
	}
	_, err = p.GetPortURL(p.Ctx, &providerv1.GetPortURLRequest{Sandbox: box, Port: 7070})
	f := providertest.Refused(t, "GetPortURL of another port", err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID, none)
	if f.Metadata[fault.MetaField] != "port" || !strings.Contains(err.Error(), "8080, 9090") {
		t.Errorf("the refusal is %v: want it to name the ports that there are", err)
	}
	if _, err := p.DeleteSandbox(p.Ctx, &providerv1.DeleteSandboxRequest{Sandbox: box}); err != nil {
		t.Fatal(err)
	}
	_, err = p.GetPortURL(p.Ctx, &providerv1.GetPortURLRequest{Sandbox: box, Port: 8080})
	providertest.Refused(t, "GetPortURL of a sandbox that is deleted", err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, none)
}

// visit asks the simulator for a host as the vendor's edge is asked, and returns all
// that it answers: an echo is no HTTP.
func visit(t *testing.T, v vendor, host string) string {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(v.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // all was read
	if _, err := fmt.Fprintf(conn, "GET /hello HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil { // so that the echo ends
		t.Fatal(err)
	}
	said, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(said)
}

// TestPortsAreSentBefore: more ports than the vendor has are refused without asking it.
func TestPortsAreSentBefore(t *testing.T) {
	v := newVendor(t)
	p := newPlugin(t, v, "", nil)
	req := newRequest()
	for i := range uint32(16) {
		req.Spec.Ports = append(req.Spec.Ports, 3000+i)
	}
	_, err := p.CreateSandbox(p.Ctx, req)
	providertest.Refused(t, "CreateSandbox with 16 ports", err, providerv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, none)
	if resp, err := http.Get(v.url + "/_simulator/state"); err != nil {
		t.Fatal(err)
	} else {
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close() // it was read
		if strings.Contains(string(body), "running") {
			t.Errorf("the vendor has made something: %s", body)
		}
	}
}
