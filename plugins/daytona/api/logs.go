package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
)

const (
	// maxMessage bounds one message of a log; the vendor's have a kilobyte.
	maxMessage = 4 << 20
	// listen is how often a log that is silent is asked whether it is still there.
	listen = 20 * time.Second
)

// Logs is what a command prints, from its first byte on.
type Logs struct {
	conn *websocket.Conn
	life context.Context //nolint:containedctx // a log outlives the call that opens it
	end  context.CancelFunc
	// over is closed when the goroutine that asks has ended.
	over chan struct{}
}

// Logs opens the output of a command of a session. ctx is for opening. The vendor
// has been seen to leave a log open after its command has ended, and a proxy can lose
// one without a word: the log is closed then.
func (c *Client) Logs(ctx context.Context, at Place, session, command string) (*Logs, error) {
	//nolint:bodyclose // the library closes it, or has read it
	conn, resp, err := websocket.Dial(ctx, at.url(commandPath(session, command)+"/logs?follow=true"), &websocket.DialOptions{
		HTTPClient: c.http.HTTP(), HTTPHeader: c.http.Header(),
	})
	if err != nil {
		if resp != nil && resp.StatusCode >= 300 {
			return nil, c.http.Refused(resp)
		}
		return nil, &upstream.LostError{Sent: true, Err: errors.Join(ctx.Err(), err)}
	}
	conn.SetReadLimit(maxMessage)
	l := &Logs{conn: conn, over: make(chan struct{})}
	l.life, l.end = context.WithCancel(context.WithoutCancel(ctx))
	go l.ask(func(ctx context.Context) bool {
		cmd, err := c.Command(ctx, at, session, command)
		return err == nil && cmd.ExitCode != nil
	})
	return l, nil
}

// ask closes a log that does not answer, or whose command has ended long ago.
func (l *Logs) ask(ended func(context.Context) bool) {
	defer close(l.over)
	ticker := time.NewTicker(listen)
	defer ticker.Stop()
	for before := false; ; {
		select {
		case <-ticker.C:
		case <-l.life.Done():
			_ = l.conn.CloseNow()
			return
		}
		ctx, cancel := context.WithTimeout(l.life, listen)
		silent := l.conn.Ping(ctx) != nil
		now := ended(ctx)
		cancel()
		if silent || (before && now) {
			l.end()
		}
		before = now
	}
}

// Next returns the next piece, of both streams as they came, without the bytes 1 and
// 2, by which some releases of the vendor's mark them. io.EOF is an end that the vendor has said, of the log
// and not of the command.
func (l *Logs) Next() (string, error) {
	_, data, err := l.conn.Read(l.life)
	switch {
	case err == nil:
		return marks.Replace(string(data)), nil
	case websocket.CloseStatus(err) == websocket.StatusNormalClosure:
		return "", io.EOF
	}
	return "", fmt.Errorf("read the log: %w", err)
}

// Close ends the log, and a Next that waits. It can be called again.
func (l *Logs) Close() {
	l.end()
	<-l.over
}

// marks stand before the lines of a log that has two streams: three bytes 1 or 2.
var marks = strings.NewReplacer("\x01", "", "\x02", "")
