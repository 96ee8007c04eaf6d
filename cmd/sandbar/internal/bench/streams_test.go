package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/broker/session"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// opening is how many streams are opened at once.
const opening = 32

// streams follows so many commands at once, each of which gets a line again and
// again and sends it back, and asks for sandboxes meanwhile.
func (f *filled) streams(n int) ScaleStreams {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Minute)
	defer cancel()
	out := ScaleStreams{Streams: n}
	idle, _ := f.resident()
	all := make([]*echoed, n)
	began := time.Now()
	var g errgroup.Group
	g.SetLimit(opening)
	for i := range all {
		g.Go(func() (err error) {
			all[i], err = f.echo(ctx, f.ids[i%len(f.ids)])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		f.t.Fatal(err)
	}
	out.Opened = time.Since(began)
	var beating sync.WaitGroup
	stop := time.Now().Add(streamTime)
	for i, e := range all {
		beating.Go(func() { e.beats(time.Duration(i)*beat/time.Duration(n), stop) })
	}
	out.Get = f.lookups(ctx)
	busy, provider := f.resident()
	beating.Wait()
	out.Broker, out.Provider, out.Each = busy, provider, (busy-idle)/int64(n)
	for _, e := range all {
		if err := e.end(); err != nil {
			f.t.Errorf("a stream: %v", err)
		}
		out.Echo = append(out.Echo, e.took...)
	}
	return out
}

// echoed is a command that sends back what it gets.
type echoed struct {
	a    *session.Attachment
	back *lines
	done chan error
	took Durations
	err  error
}

func (f *filled) echo(ctx context.Context, sandbox string) (*echoed, error) {
	d := f.stack.brokerDoor(sandbox)
	spec := &providerv1.ExecSpec{Argv: []string{"cat"}, Stdin: true}
	req := &providerv1.StartExecRequest{Sandbox: d.sandbox, ExecId: "exe_" + provider.NewKey(), Spec: spec}
	req.RequestDigest = provider.Digest(spec)
	if _, err := d.start(ctx, req); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	e := &echoed{back: &lines{got: make(chan struct{}, 1)}, done: make(chan error, 1)}
	e.a = session.New(&providerv1.ExecOpen{Sandbox: d.sandbox, ExecId: req.GetExecId(), Stdin: true}, session.Options{Stdout: e.back})
	go func() {
		res, err := e.a.Run(ctx, d.dial)
		if err == nil && (res.Exit.GetCode() != 0 || res.Attachments != 1) {
			err = fmt.Errorf("it ended with %v after %d attachments", res.Exit, res.Attachments)
		}
		e.done <- err
	}()
	e.once() // it is open when the first line is back
	e.took = nil
	return e, e.err
}

var heartbeat = []byte("one line of some length, sent there and back again\n")

// once sends a line and waits for it.
func (e *echoed) once() {
	began := time.Now()
	if _, e.err = e.a.Write(heartbeat); e.err != nil {
		return
	}
	select {
	case <-e.back.got:
		e.took = append(e.took, time.Since(began))
	case <-time.After(time.Minute):
		e.err = fmt.Errorf("a line is not back after a minute: %w", io.ErrNoProgress)
	}
}

// beats sends lines until stop; the first one after a while, so that not all are
// sent at the same moment.
func (e *echoed) beats(first time.Duration, stop time.Time) {
	next := time.NewTimer(first)
	defer next.Stop()
	for e.err == nil && time.Now().Before(stop) {
		<-next.C
		next.Reset(beat)
		e.once()
	}
}

func (e *echoed) end() error {
	_ = e.a.Close() // never fails
	if err := <-e.done; err != nil {
		return err
	}
	return e.err
}

// lines tells of each line that is written to it.
type lines struct {
	got  chan struct{}
	rest []byte
}

// Write is called by one goroutine.
func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	if i := bytes.IndexByte(l.rest, '\n'); i >= 0 {
		l.rest = append(l.rest[:0], l.rest[i+1:]...)
		l.got <- struct{}{}
	}
	return len(p), nil
}
