package daytona

import (
	"bytes"
	"context"
	"net/http"
	"strings"

	"github.com/coder/websocket"

	"github.com/sandbar-dev/sandbar/conformance/simulator/internal/faults"
)

// versioned reports whether a request says what SDK it is of, upon which logs have
// their two streams; clients before that did are not simulated. The header is one, or
// a protocol of the socket's, for browsers [O].
func versioned(r *http.Request) bool {
	return r.Header.Get("X-Daytona-SDK-Version") != "" || strings.Contains(r.Header.Get("Sec-WebSocket-Protocol"), "X-Daytona-SDK-Version")
}

// combined reports whether a log is shown without marks [O].
func combined(r *http.Request) bool {
	return !versioned(r) && r.Header.Get("X-Daytona-Split-Output") != "true"
}

var unmark = strings.NewReplacer(marks[0], "", marks[1], "")

// demux takes the two streams of a log apart. That only a mark at the beginning of a
// line is one is kinder than the vendor is, who takes any [O].
func demux(log []byte) (stdout, stderr string) {
	var out [2]strings.Builder
	stream := 0
	for line := range bytes.Lines(log) {
		for i, mark := range marks {
			if rest, ok := bytes.CutPrefix(line, []byte(mark)); ok {
				stream, line = i, rest
				break
			}
		}
		_, _ = out[stream].Write(line) // to memory
	}
	return out[0].String(), out[1].String()
}

// showSync answers a command that was waited for [S, O].
func (cmd *command) showSync(w http.ResponseWriter, r *http.Request) error {
	cmd.mu.Lock()
	log, exit := bytes.Clone(cmd.log), cmd.exit
	cmd.mu.Unlock()
	if exit == nil {
		return &problem{status: http.StatusBadRequest, code: "BAD_REQUEST", message: "session cancelled"}
	}
	body := map[string]any{"cmdId": cmd.id, "exitCode": *exit, "output": string(log)}
	if combined(r) {
		body["output"] = unmark.Replace(string(log))
	} else {
		body["stdout"], body["stderr"] = demux(log)
	}
	answer(w, http.StatusOK, body)
	return nil
}

func getCommand(w http.ResponseWriter, r *http.Request, c call) error {
	cmd, err := c.command(r)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, cmd.wire())
	return nil
}

// commandLogs is what a command printed so far, or, for a socket, as it comes.
func (s *Simulator) commandLogs(w http.ResponseWriter, r *http.Request, c call) error {
	cmd, err := c.command(r)
	if err != nil {
		return err
	}
	if r.Header.Get("Upgrade") == "websocket" {
		s.follow(w, r, c, cmd)
		return nil
	}
	cmd.mu.Lock()
	log := bytes.Clone(cmd.log)
	cmd.mu.Unlock()
	switch {
	case combined(r):
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(unmark.Replace(string(log)))) // nobody can be told
	default:
		stdout, stderr := demux(log)
		answer(w, http.StatusOK, map[string]string{"output": string(log), "stdout": stdout, "stderr": stderr})
	}
	return nil
}

// follow sends a log in pieces of a kilobyte until its command has ended [O].
func (s *Simulator) follow(w http.ResponseWriter, r *http.Request, c call, cmd *command) {
	var protocols []string
	for one := range strings.SplitSeq(r.Header.Get("Sec-WebSocket-Protocol"), ",") {
		if one = strings.TrimSpace(one); strings.HasPrefix(one, "X-Daytona-SDK-Version") {
			protocols = append(protocols, one)
		}
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: protocols})
	if err != nil {
		return // it has answered
	}
	defer func() { _ = conn.CloseNow() }() // it may have been closed
	// The client says nothing, and is noticed when it leaves.
	ctx := conn.CloseRead(context.WithoutCancel(r.Context()))
	left, limited := faults.Limit(r.Context())
	if !limited {
		left = -1
	}
	clean := combined(r)
	for at := 0; ; {
		cmd.mu.Lock()
		data, done, changed := cmd.log[at:], cmd.exit != nil, cmd.changed
		at = len(cmd.log)
		cmd.mu.Unlock()
		if clean { // it is whole lines
			data = []byte(unmark.Replace(string(data)))
		}
		const piece = 1024
		for len(data) > 0 {
			n := min(len(data), piece)
			if left >= 0 {
				n = min(n, left)
				left -= n
			}
			if n == 0 || conn.Write(ctx, websocket.MessageBinary, data[:n]) != nil {
				return
			}
			data = data[n:]
		}
		if done {
			_ = conn.Close(websocket.StatusNormalClosure, "")
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		case <-c.life.Done():
			return
		}
	}
}
