package exactlyonce_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/broker/state/postgres/pgtest"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

var (
	creates    = flag.Int("exactly.creates", 200, "sandboxes to create in the long run")
	reportFile = flag.String("exactly.report", "", "file to write the result of the long run to, as a table")
)

const (
	// clients create at the same time.
	clients = 8
	// killEvery is after how many finished creates the broker is killed.
	killEvery = 25
	// deleteEvery is which of a client's sandboxes it deletes again at once.
	deleteEvery = 4
)

// faults are what the vendor of the long run does wrong.
var faults = []string{"CreateSandbox:lost_answer:5%", "CreateSandbox:lost_request:2%", "CreateSandbox:late:1%", "DeleteSandbox:lost_answer:5%"}

// TestManyCreates is the promise in one number: so many creates, 5 % of the
// answers lost, brokers killed again and again; no leak, no double.
func TestManyCreates(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		alone(newWorld(t, vendors{"fake": {"faults": faults}})).measure(t)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		alone(newWorld(t, vendors{"fake": {"faults": faults}}, database{url: pgtest.URL(t)})).measure(t)
	})
	t.Run("PostgreSQL, three replicas", func(t *testing.T) {
		c := newCloud(t, faults...)
		db := database{pgtest.URL(t), true}
		r := &many{}
		for range 3 {
			r.worlds = append(r.worlds, newWorld(t, vendors{"remote": {"cloud": c.socket}}, db))
		}
		r.listing = func() []string { return c.listing(r.worlds[0].owner) }
		r.measure(t)
	})
}

// many is one long run.
type many struct {
	t *testing.T
	// worlds are the brokers, which are all the same to the clients.
	worlds []*world
	// listing asks the vendor itself; no broker runs then.
	listing func() []string
	began   time.Time

	mu sync.Mutex
	// kept are the sandboxes that clients were told of and did not delete, by key.
	kept map[string]string

	finished, deleted, failed, kills atomic.Int64
	took                             time.Duration
}

func alone(w *world) *many { return &many{worlds: []*world{w}, listing: w.listing} }

func (r *many) measure(t *testing.T) {
	t.Helper()
	r.t, r.began, r.kept = t, time.Now(), map[string]string{}
	r.start()
	r.run()
	r.prove()
	r.report(strings.ReplaceAll(strings.TrimPrefix(t.Name(), "TestManyCreates/"), "_", " "))
}

// start starts all brokers, each the real command.
func (r *many) start() {
	r.t.Helper()
	for _, w := range r.worlds {
		w.serve()
	}
}

func (r *many) stop() {
	r.t.Helper()
	for _, w := range r.worlds {
		w.stop()
	}
}

// any returns one of the brokers, as a load balancer does that does not know which
// of them live.
func (r *many) any() *world { return r.worlds[rand.IntN(len(r.worlds))] }

// run lets the clients work while brokers are killed and started again.
func (r *many) run() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Hour)
	defer cancel()
	keys, done := make(chan int), make(chan struct{})
	go func() {
		defer close(keys)
		for i := range *creates {
			select {
			case keys <- i:
			case <-ctx.Done():
				return
			}
		}
	}()
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for i := range keys {
				r.client(ctx, i)
			}
		})
	}
	go func() { all.Wait(); close(done) }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for next := int64(killEvery); ; {
		select {
		case <-done:
			r.took = time.Since(r.began)
			return
		case <-tick.C:
			if r.finished.Load() >= next {
				next += killEvery
				r.kills.Add(1)
				w := r.any()
				w.kill()
				w.serve()
			}
		}
	}
}

// client wants one sandbox, and repeats its request until it has it; some it does
// not want any more then.
func (r *many) client(ctx context.Context, i int) {
	key := fmt.Sprintf("key-%05d", i)
	id, err := again(ctx, r, func(ctx context.Context) (string, error) {
		res, err := r.any().api.CreateSandbox(ctx, connect.NewRequest(&brokerv1.CreateSandboxRequest{
			IdempotencyKey: key, Labels: map[string]string{"key": key},
		}))
		if err != nil {
			return "", err
		}
		return res.Msg.GetSandbox().GetSandboxId(), nil
	})
	if err != nil {
		r.t.Errorf("%s: %v", key, err)
		return
	}
	r.finished.Add(1)
	if i%deleteEvery == 0 {
		_, err := again(ctx, r, func(ctx context.Context) (string, error) {
			_, err := r.any().api.DeleteSandbox(ctx, connect.NewRequest(&brokerv1.DeleteSandboxRequest{Sandbox: id}))
			return "", err
		})
		if err != nil {
			r.t.Errorf("delete %s: %v", id, err)
		}
		r.deleted.Add(1)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept[key] = id
}

// again repeats a call until it works, as a client of any service has to.
func again(ctx context.Context, r *many, call func(context.Context) (string, error)) (string, error) {
	wait := time.NewTimer(0)
	defer wait.Stop()
	var last error
	for {
		select {
		case <-ctx.Done():
			return "", errors.Join(ctx.Err(), last)
		case <-wait.C:
		}
		cctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		out, err := call(cctx)
		cancel()
		if err == nil {
			return out, nil
		}
		last = err
		r.failed.Add(1)
		wait.Reset(100 * time.Millisecond)
	}
}

// prove compares what clients were told, what the broker lists and what the
// vendor has, and then deletes all of it.
func (r *many) prove() {
	r.t.Helper()
	var want []string
	for _, id := range r.kept {
		want = append(want, id)
	}
	slices.Sort(want)
	known := r.any().settled()
	if extra := without(known, want); len(extra) > 0 {
		r.t.Errorf("%d doubles or leaks: the broker knows sandboxes that nobody was told of: %v", len(extra), extra)
	}
	if lost := without(want, known); len(lost) > 0 {
		r.t.Errorf("%d sandboxes are lost: %v", len(lost), lost)
	}
	for key, id := range r.kept { // the same key, the same sandbox, to the end
		res, err := r.any().api.CreateSandbox(r.t.Context(), connect.NewRequest(&brokerv1.CreateSandboxRequest{
			IdempotencyKey: key, Labels: map[string]string{"key": key},
		}))
		if err != nil || res.Msg.GetSandbox().GetSandboxId() != id {
			r.t.Errorf("%s: a repetition got %v, %v; want %s", key, res, err, id)
		}
	}
	r.stop()
	there := r.listing()
	if leaks := without(there, want); len(leaks) > 0 {
		r.t.Errorf("%d leaks at the vendor: %v", len(leaks), leaks)
	}
	if lost := without(want, there); len(lost) > 0 {
		r.t.Errorf("the vendor does not have %d: %v", len(lost), lost)
	}
	r.start()
	var all sync.WaitGroup
	for part := range slices.Chunk(want, len(want)/clients+1) {
		all.Go(func() {
			for _, id := range part {
				if _, err := again(r.t.Context(), r, func(context.Context) (string, error) { return "", r.any().tryRemove(id) }); err != nil {
					r.t.Error(err)
				}
			}
		})
	}
	all.Wait()
	r.stop()
	if left := r.listing(); len(left) > 0 {
		r.t.Errorf("%d are left after everything was deleted: %v", len(left), left)
	}
}

func without(all, but []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(id string) bool { return slices.Contains(but, id) })
}

// report says what the run did, also into a file.
func (r *many) report(db string) {
	r.t.Helper()
	verdict := "0 leaks, 0 doubles"
	if r.t.Failed() {
		verdict = "FAILED"
	}
	line := fmt.Sprintf("| %s | %d | %d | %d | %d | %v | %s |\n", db, *creates, r.deleted.Load(), r.kills.Load(), r.failed.Load(),
		r.took.Round(time.Second), verdict)
	r.t.Log(strings.TrimSpace(line))
	if r.kills.Load() == 0 {
		r.t.Error("the broker was never killed")
	}
	if *reportFile == "" {
		return
	}
	f, err := os.OpenFile(*reportFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := f.WriteString(line); err != nil {
		r.t.Error(err)
	}
	if err := f.Close(); err != nil {
		r.t.Error(err)
	}
}
