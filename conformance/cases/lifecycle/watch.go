package lifecycle

import (
	"context"
	"slices"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func watch() []engine.Case {
	return []engine.Case{{
		ID: "watch/state-then-changes", Title: "Watching tells what there is, that this was all, and then what changes, of one owner.",
		Profile: engine.Core, Requirements: []string{"REQ-WATCH-001"}, Needs: []string{"watch"}, Kinds: own, Cost: 15,
		Run: stateThenChanges,
	}}
}

func stateThenChanges(t *engine.T) {
	box := stage.Create(t)
	other := stage.Create(t, func(req *providerv1.CreateSandboxRequest) { req.Identity.Owner = t.Owner() + "/other" })
	ctx, cancel := context.WithTimeout(t.Context(), stage.Patience(t))
	defer cancel()
	stream, err := t.Client().WatchSandboxes(ctx, &providerv1.WatchSandboxesRequest{Owner: t.Owner()})
	stage.OK(t, "WatchSandboxes", err)
	w := &watcher{t: t, stream: stream, foreign: []string{other.ID()}}
	t.Step("the first listing")
	var first []string
	for event := w.next(); event.GetSynced() == nil; event = w.next() {
		if id := event.GetDeletedSandboxId(); id != "" {
			t.Errorf("before synced came the deletion of %s", id)
		}
		first = append(first, event.GetSandbox().GetIdentity().GetSandboxId())
	}
	if !slices.Equal(first, []string{box.ID()}) {
		t.Errorf("before synced came %q: want the owner's one sandbox, %q", first, box.ID())
	}
	t.Step("changes")
	added := stage.Create(t)
	w.until("the sandbox that was created", func(e *providerv1.WatchSandboxesResponse) bool {
		return e.GetSandbox().GetIdentity().GetSandboxId() == added.ID()
	})
	other.Delete()
	box.Delete()
	w.until("the deletion", func(e *providerv1.WatchSandboxesResponse) bool { return e.GetDeletedSandboxId() == box.ID() })
}

// watcher reads a watch, and looks for what it should not tell.
type watcher struct {
	t       *engine.T
	stream  grpc.ServerStreamingClient[providerv1.WatchSandboxesResponse]
	foreign []string
}

func (w *watcher) next() *providerv1.WatchSandboxesResponse {
	event, err := w.stream.Recv()
	if err != nil {
		w.t.Fatalf("WatchSandboxes ended with %s: want it to go on", subject.Describe(err))
	}
	if slices.Contains(w.foreign, event.GetSandbox().GetIdentity().GetSandboxId()) || slices.Contains(w.foreign, event.GetDeletedSandboxId()) {
		w.t.Errorf("a sandbox of another owner is told of: %v", event)
	}
	return event
}

// until reads on to an event. The case's budget bounds it.
func (w *watcher) until(what string, is func(*providerv1.WatchSandboxesResponse) bool) {
	w.t.Step("wait for %s", what)
	for !is(w.next()) {
		continue
	}
}
