package daytona_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/providertest"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// tunnel opens one, and returns the error that it is refused with.
func (p plugin) tunnel(box *providerv1.SandboxRef, port uint32) (providerv1.ProviderService_OpenTunnelClient, error) {
	p.T.Helper()
	stream, err := p.OpenTunnel(p.Ctx)
	if err != nil {
		return nil, err
	}
	send(p.T, stream, &providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Open{Open: &providerv1.TunnelOpen{
		Target: &providerv1.TunnelOpen_Port{Port: &providerv1.PortTarget{Sandbox: box, Port: port}},
	}}})
	resp, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	if resp.GetFrame().GetOpened() == nil {
		p.T.Fatalf("a tunnel begins with %v", resp)
	}
	return stream, nil
}

func send(t *testing.T, stream providerv1.ProviderService_OpenTunnelClient, frame *providerv1.TunnelFrame) {
	t.Helper()
	if err := stream.Send(&providerv1.OpenTunnelRequest{Frame: frame}); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// TestTunnel: bytes come back whole, behind the half-close too; and what carried them
// is gone afterwards.
func TestTunnel(t *testing.T) {
	v := newVendor(t)
	p := newPlugin(t, v, "", nil)
	box := p.Create(providertest.NewRequest())
	p.Start(box, "sandbar-probe", "echo", "8080")
	stream, err := p.tunnel(box, 8080)
	for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); { // until it listens
		providertest.Refused(t, "a tunnel to a port that nothing listens on yet", err, providerv1.ErrorReason_ERROR_REASON_PORT_REFUSED, none)
		stream, err = p.tunnel(box, 8080)
	}
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("every byte\x00\xff\n"), 2000)
	send(t, stream, &providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Data{Data: data}})
	send(t, stream, &providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_HalfClose{HalfClose: &providerv1.TunnelHalfClose{}}})
	var got []byte
	for half := false; !half; {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatalf("after %d bytes: %v", len(got), err)
		}
		got = append(got, resp.GetFrame().GetData()...)
		half = resp.GetFrame().GetHalfClose() != nil
	}
	if !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back: want the %d that were sent", len(got), len(data))
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("behind both half-closes comes %v", err)
	}
	for deadline := time.Now().Add(patience); v.Sessions() > 1; time.Sleep(20 * time.Millisecond) { // that of what listens stays
		if time.Now().After(deadline) {
			t.Fatalf("%d sessions are left", v.Sessions())
		}
	}
}

// TestTunnelRefusals: a port that nothing listens on, those of the vendor's, and a
// sandbox that is gone.
func TestTunnelRefusals(t *testing.T) {
	v := newVendor(t)
	p := newPlugin(t, v, "", nil)
	box := p.Create(providertest.NewRequest())
	_, err := p.tunnel(box, 8080)
	providertest.Refused(t, "a tunnel to a port that nothing listens on", err, providerv1.ErrorReason_ERROR_REASON_PORT_REFUSED, none)
	_, err = p.tunnel(box, 2280)
	providertest.Refused(t, "a tunnel to the vendor's own port", err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID, none)
	if _, err := p.DeleteSandbox(p.Ctx, &providerv1.DeleteSandboxRequest{Sandbox: box}); err != nil {
		t.Fatal(err)
	}
	_, err = p.tunnel(box, 8080)
	providertest.Refused(t, "a tunnel into a sandbox that is gone", err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, none)
}

// TestPortURL: what is answered leads to the port.
func TestPortURL(t *testing.T) {
	v := newVendor(t)
	p := newPlugin(t, v, "", nil)
	box := p.Create(providertest.NewRequest())
	resp, err := p.GetPortURL(p.Ctx, &providerv1.GetPortURLRequest{Sandbox: box, Port: 8080})
	if err != nil {
		t.Fatal(err)
	}
	get := func(header map[string]string) int {
		t.Helper()
		// The name below localhost is not one that every machine knows.
		u, err := url.Parse(resp.GetUrl())
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(p.Ctx, http.MethodGet, v.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host, req.Close = u.Host, true
		for name, value := range header {
			req.Header.Set(name, value)
		}
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close() // nobody reads it
		return answer.StatusCode
	}
	if without, with := get(nil), get(resp.GetHeaders()); without != http.StatusUnauthorized || with != http.StatusBadGateway {
		t.Errorf("it answers %d without the headers, and %d with them: want 401, and 502 because nothing listens", without, with)
	}
	_, err = p.GetPortURL(p.Ctx, &providerv1.GetPortURLRequest{Sandbox: box, Port: 2280})
	providertest.Refused(t, "GetPortURL of the vendor's own port", err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID, none)
	gone := &providerv1.SandboxRef{SandboxId: box.GetSandboxId(), Handle: box.GetHandle()}
	if _, err := p.DeleteSandbox(p.Ctx, &providerv1.DeleteSandboxRequest{Sandbox: gone}); err != nil {
		t.Fatal(err)
	}
	_, err = p.GetPortURL(p.Ctx, &providerv1.GetPortURLRequest{Sandbox: gone, Port: 8080})
	providertest.Refused(t, "GetPortURL after the end", err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, none)
}
