package resilience

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// Frames of HTTP/2 (RFC 9113, section 6). gRPC's own client does not ping as often
// as the contract permits.
const (
	preface       = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	frameHeader   = 9
	typeSettings  = 4
	typePing      = 6
	typeGoAway    = 7
	flagAck       = 1
	pingBytes     = 8
	goAwayDetails = 8
)

// pings is how many a server that takes them for an attack puts up with, and one.
const pings = 4

// margin keeps a ping from coming early where the last one was late.
const margin = 20 * time.Millisecond

func keepalive(t *engine.T) {
	p := start(t, launch{})
	dialer := net.Dialer{}
	conn, err := dialer.DialContext(t.Context(), "unix", p.greeting()[3])
	broken(t, "connect", err)
	defer conn.Close()
	send := func(what string, b []byte) {
		if _, err := conn.Write(b); err != nil {
			t.Fatalf("%s: %v: want the connection to stay", what, err)
		}
	}
	send("begin", append([]byte(preface), frame(typeSettings, 0, nil)...))
	for n := range pings {
		if n > 0 {
			stage.Pause(t, handshake.KeepaliveMinTime+margin)
		}
		t.Step("ping %d", n+1)
		send(fmt.Sprintf("ping %d", n+1), frame(typePing, 0, make([]byte, pingBytes)))
		broken(t, "wait for an answer", conn.SetReadDeadline(time.Now().Add(handshake.KeepaliveTimeout)))
		if err := answered(conn); err != nil {
			t.Fatalf("ping %d, %s after the one before: %v: want it answered", n+1, handshake.KeepaliveMinTime, err)
		}
	}
	// A server that has had enough answers and says so then.
	broken(t, "listen on", conn.SetReadDeadline(time.Now().Add(stage.Moment)))
	if err := answered(conn); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("after ping %d, %s after the one before: %v: want the connection to stay", pings, handshake.KeepaliveMinTime, err)
	}
}

// frame is one of the connection's own.
func frame(kind, flags byte, payload []byte) []byte {
	head := make([]byte, frameHeader)
	binary.BigEndian.PutUint32(head, uint32(len(payload))<<8)
	head[3], head[4] = kind, flags
	return append(head, payload...)
}

// answered reads until a ping is.
func answered(conn io.ReadWriter) error {
	for {
		head := make([]byte, frameHeader)
		if _, err := io.ReadFull(conn, head); err != nil {
			return fmt.Errorf("read: %w", err)
		}
		payload := make([]byte, binary.BigEndian.Uint32(head)>>8)
		if _, err := io.ReadFull(conn, payload); err != nil {
			return fmt.Errorf("read: %w", err)
		}
		acks := head[4]&flagAck != 0
		switch {
		case head[3] == typeGoAway:
			return fmt.Errorf("the server sent GOAWAY: %q", payload[min(goAwayDetails, len(payload)):])
		case head[3] == typePing && acks:
			return nil
		case head[3] == typePing:
			if _, err := conn.Write(frame(typePing, flagAck, payload)); err != nil {
				return fmt.Errorf("answer a ping: %w", err)
			}
		case head[3] == typeSettings && !acks:
			if _, err := conn.Write(frame(typeSettings, flagAck, nil)); err != nil {
				return fmt.Errorf("accept the settings: %w", err)
			}
		}
	}
}
