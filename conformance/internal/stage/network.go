package stage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// EchoScript serves echo on the port in $1 with whatever the guest has for it
// (REQ-GUEST-003); 9 if it has nothing.
const EchoScript = `port=$1
if command -v sandbar-probe > /dev/null 2>&1; then exec sandbar-probe echo $port; fi
if command -v python3 > /dev/null 2>&1; then exec python3 -c '
import socket, sys, threading
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(sys.argv[1])))
s.listen(128)
def serve(c):
    while True:
        d = c.recv(65536)
        if not d:
            break
        c.sendall(d)
    c.shutdown(socket.SHUT_WR)
    c.close()
while True:
    c, _ = s.accept()
    threading.Thread(target=serve, args=(c,), daemon=True).start()
' $port; fi
if command -v node > /dev/null 2>&1; then exec node -e '
require("net").createServer({allowHalfOpen: true}, c => c.pipe(c)).listen(+process.argv[1], "127.0.0.1")' $port; fi
if command -v perl > /dev/null 2>&1; then exec perl -MIO::Socket::INET -e '
$SIG{CHLD} = "IGNORE";
$s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $ARGV[0], Listen => 128, ReuseAddr => 1) or die;
while ($c = $s->accept) { next if fork; while (sysread $c, $d, 65536) { $o = 0; while ($o < length $d) { $o += syswrite $c, $d, length($d) - $o, $o } } shutdown $c, 1; exit }
' $port; fi
exit 9`

// Echo starts a server inside that sends back what it gets, and waits until it
// can be reached. The case is skipped if the guest has nothing to serve with.
func (b *Box) Echo(port uint32) *Command {
	cmd := b.Start(Argv("sh", "-c", EchoScript, "echo", strconv.FormatUint(uint64(port), 10)))
	Eventually(b.t, Patience(b.t), "the guest's echo server to listen", func(context.Context) bool {
		if e := cmd.Get(); e.GetState() == providerv1.ExecState_EXEC_STATE_EXITED {
			if e.GetExit().GetCode() == 9 {
				b.t.Skip(engine.Prerequisite, "python3, node, perl or sandbar-probe inside")
			}
			b.t.Broken("the guest's echo server ended with %s", ExitText(e.GetExit()))
		}
		tunnel, err := b.TryTunnel(port)
		if err != nil {
			return false
		}
		tunnel.Close()
		return true
	})
	return cmd
}

// Tunnel is one connection to a port inside, or from inside.
type Tunnel struct {
	t      *engine.T
	stream frames
	cancel context.CancelFunc
	ended  chan struct{}

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced with each frame
	received []byte
	half     bool
	reset    string
	err      error
}

// Unread opens a tunnel and sends into it until nothing more is taken for a
// moment, without ever reading what comes back.
func (b *Box) Unread(port uint32) {
	t, err := b.open(port)
	OK(b.t, "OpenTunnel", err)
	close(t.ended) // nobody reads
	var sent atomic.Int64
	go func() {
		data := make([]byte, handshake.FrameBytes)
		for sent.Load() < 64<<20 {
			if t.stream.Send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Data{Data: data}}) != nil {
				return // Close cut it
			}
			sent.Add(int64(len(data)))
		}
	}()
	const moment = 300 * time.Millisecond
	for before := int64(-1); before != sent.Load(); {
		before = sent.Load()
		Pause(b.t, moment)
	}
}

// TryTunnel opens a tunnel that may be refused.
func (b *Box) TryTunnel(port uint32) (*Tunnel, error) {
	t, err := b.open(port)
	if err == nil {
		go t.read()
	}
	return t, err
}

func (b *Box) open(port uint32) (*Tunnel, error) {
	ctx, cancel := context.WithCancel(b.t.Context())
	stream, err := b.client.OpenTunnel(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	target := &providerv1.TunnelOpen{Target: &providerv1.TunnelOpen_Port{Port: &providerv1.PortTarget{Sandbox: b.Ref, Port: port}}}
	return opened(b.t, cancel, tunnelFrames{stream}, &providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Open{Open: target}})
}

// opened sends the first frames of a stream, and waits for it to be open.
func opened(t *engine.T, cancel context.CancelFunc, stream frames, first ...*providerv1.TunnelFrame) (*Tunnel, error) {
	for _, f := range first {
		_ = stream.Send(f) // Recv tells the error
	}
	answer, err := stream.Recv()
	if err == nil && answer.GetOpened() == nil {
		err = errors.New("the first frame is not opened")
	}
	if err != nil {
		cancel()
		return nil, err
	}
	c := &Tunnel{t: t, stream: stream, cancel: cancel, ended: make(chan struct{}), changed: make(chan struct{})}
	t.Cleanup(func(context.Context) { c.Close() })
	return c, nil
}

// Tunnel opens a tunnel.
func (b *Box) Tunnel(port uint32) *Tunnel {
	t, err := b.TryTunnel(port)
	OK(b.t, "OpenTunnel to port "+strconv.FormatUint(uint64(port), 10), err)
	return t
}

func (t *Tunnel) read() {
	defer close(t.ended)
	for {
		frame, err := t.stream.Recv()
		t.mu.Lock()
		switch f := frame.GetFrame().(type) {
		case *providerv1.TunnelFrame_Data:
			if t.half {
				t.t.Errorf("a tunnel carried data after its half-close")
			}
			if len(f.Data) > handshake.FrameBytes {
				t.t.Errorf("a tunnel's frame has %d bytes: want at most %d", len(f.Data), handshake.FrameBytes)
			}
			t.received = append(t.received, f.Data...)
		case *providerv1.TunnelFrame_HalfClose:
			t.half = true
		case *providerv1.TunnelFrame_Reset_:
			t.reset = f.Reset_.GetReason()
		}
		t.err = err
		close(t.changed)
		t.changed = make(chan struct{})
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Send sends data, in frames.
func (t *Tunnel) Send(data []byte) {
	for len(data) > 0 {
		n := min(len(data), handshake.FrameBytes)
		if err := t.stream.Send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Data{Data: data[:n]}}); err != nil {
			return // how the tunnel ended is what the case looks at
		}
		data = data[n:]
	}
}

// HalfClose says that nothing more is sent.
func (t *Tunnel) HalfClose() {
	_ = t.stream.Send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_HalfClose{HalfClose: &providerv1.TunnelHalfClose{}}})
}

// Expect waits for exactly these bytes, in addition to what was expected before.
func (t *Tunnel) Expect(want []byte) {
	t.await("what was sent to come back", func() bool { return len(t.received) >= len(want) || t.over() })
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.received) < len(want) || !bytes.Equal(t.received[:len(want)], want) {
		t.t.Fatalf("through the tunnel came %d bytes, %s%s: want the %d that were sent", len(t.received), Excerpt(t.received), t.end(), len(want))
	}
	t.received = t.received[len(want):]
}

// Take waits for something to come and returns all that has come.
func (t *Tunnel) Take() []byte {
	t.await("something to come", func() bool { return len(t.received) > 0 || t.over() })
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.received) == 0 {
		t.t.Fatalf("nothing came through the tunnel%s: want something", t.end())
	}
	got := t.received
	t.received = nil
	return got
}

// ExpectHalfClose waits for the other side's half-close.
func (t *Tunnel) ExpectHalfClose() {
	t.await("a half-close from inside", func() bool { return t.half || t.err != nil })
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.half && !errors.Is(t.err, io.EOF) {
		t.t.Fatalf("the tunnel ended with %s: want a half-close", subject.Describe(t.err))
	}
	if len(t.received) > 0 {
		t.t.Errorf("%d bytes came that nobody sent", len(t.received))
	}
}

// ExpectEnd waits for the tunnel to be over, however it ends.
func (t *Tunnel) ExpectEnd(why string) {
	t.await("the tunnel to end, because "+why, t.over)
}

// over says whether nothing more comes. The caller holds mu.
func (t *Tunnel) over() bool { return t.half || t.reset != "" || t.err != nil }

// end says how it ended, if it did. The caller holds mu.
func (t *Tunnel) end() string {
	switch {
	case t.reset != "":
		return ", and a reset: " + t.reset
	case t.half:
		return ", and a half-close"
	case t.err != nil:
		return ", and the end: " + subject.Describe(t.err)
	}
	return ""
}

func (t *Tunnel) await(what string, is func() bool) {
	timer := time.NewTimer(Patience(t.t))
	defer timer.Stop()
	for {
		t.mu.Lock()
		ok, changed, got := is(), t.changed, len(t.received)
		t.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
			timer.Reset(Patience(t.t))
		case <-timer.C:
			t.t.Fatalf("nothing came for %s: want %s; %d bytes came so far", Patience(t.t), what, got)
		case <-t.t.Context().Done():
			t.t.Fatalf("want %s; %d bytes came until the budget ended", what, got)
		}
	}
}

// Close gives the tunnel up.
func (t *Tunnel) Close() {
	t.cancel()
	<-t.ended
}
