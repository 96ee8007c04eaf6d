package lifecycle

import (
	"context"
	"slices"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func list() []engine.Case {
	return []engine.Case{
		{
			ID: "list/owner-filtered", Title: "A listing has the owner's sandboxes, all of them and no other's.",
			Profile: engine.Core, Requirements: []string{"REQ-LIST-001"}, Kinds: own, Cost: 10,
			Run: ownerFiltered,
		},
		{
			ID: "list/pages-stable", Title: "While others come and go, a sandbox that stays is listed exactly once.",
			Profile: engine.Core, Requirements: []string{"REQ-LIST-002"}, Kinds: own, Cost: 20,
			Run: pagesStable,
		},
		{
			ID: "list/state-truth", Title: "Get and List say what state a sandbox is in, and UNKNOWN with a reason where that cannot be told.",
			Profile: engine.Core, Requirements: []string{"REQ-LIST-003"}, Kinds: own, Cost: 10,
			Run: stateTruth,
		},
	}
}

func ownerFiltered(t *engine.T) {
	mine := stage.Create(t)
	other := t.Owner() + "/other"
	theirs := stage.Create(t, func(req *providerv1.CreateSandboxRequest) { req.Identity.Owner = other })
	for owner, want := range map[string]string{t.Owner(): mine.ID(), other: theirs.ID()} {
		if got := ids(stage.ListAll(t, t.Client(), owner, 0)); !slices.Equal(got, []string{want}) {
			t.Errorf("the sandboxes of %s are %q: want %q", owner, got, want)
		}
	}
	if got := stage.ListAll(t, t.Client(), t.Owner()+"/nobody", 0); len(got) > 0 {
		t.Errorf("an owner that never made anything has %q", ids(got))
	}
}

// pagesStable removes what the first page had and adds to what comes later, while
// it reads on.
func pagesStable(t *engine.T) {
	boxes := []*stage.Box{stage.Create(t), stage.Create(t), stage.Create(t), stage.Create(t)}
	stage.Eventually(t, settling, "four sandboxes listed", func(context.Context) bool {
		return len(stage.ListAll(t, t.Client(), t.Owner(), 0)) == len(boxes)
	})
	req := &providerv1.ListSandboxesRequest{Owner: t.Owner(), PageSize: 2}
	page, err := t.Client().ListSandboxes(t.Context(), req)
	stage.OK(t, "ListSandboxes", err)
	seen := ids(page.GetSandboxes())
	if len(seen) == 0 || len(seen) > 2 || page.GetNextPageToken() == "" {
		t.Fatalf("the first page of 2 has %q and next_page_token %q: want two of four, and a token", seen, page.GetNextPageToken())
	}
	t.Step("delete one that was listed, and create one")
	i := slices.IndexFunc(boxes, func(b *stage.Box) bool { return b.ID() == seen[0] })
	if i < 0 {
		t.Fatalf("the listing has %q, which is none of the case's", seen[0])
	}
	boxes[i].Delete()
	stayed := slices.Delete(slices.Clone(boxes), i, i+1)
	added := stage.Create(t)
	for page.GetNextPageToken() != "" {
		req.PageToken = page.GetNextPageToken()
		page, err = t.Client().ListSandboxes(t.Context(), req)
		stage.OK(t, "ListSandboxes with a token", err)
		if page.GetNextPageToken() == req.GetPageToken() {
			t.Fatalf("the next page's token is the one that was sent: the list never ends")
		}
		seen = append(seen, ids(page.GetSandboxes())...)
	}
	for _, box := range stayed {
		if n := count(seen, box.ID()); n != 1 {
			t.Errorf("sandbox %s, which was there throughout, is listed %d times: want once", box.ID(), n)
		}
	}
	if n := count(seen, added.ID()); n > 1 {
		t.Errorf("sandbox %s, which came while the list was read, is listed %d times: want once at most", added.ID(), n)
	}
}

func count(list []string, want string) int {
	n := 0
	for _, s := range list {
		if s == want {
			n++
		}
	}
	return n
}

func stateTruth(t *engine.T) {
	box := stage.Create(t)
	is := func(want providerv1.SandboxState) {
		got := box.Get()
		listed := stage.ListAll(t, t.Client(), t.Owner(), 0)
		if len(listed) != 1 {
			t.Fatalf("ListSandboxes has %q: want the one that was made", ids(listed))
		}
		for where, sb := range map[string]*providerv1.Sandbox{"GetSandbox": got, "ListSandboxes": listed[0]} {
			unknown := sb.GetState() == providerv1.SandboxState_SANDBOX_STATE_UNKNOWN
			if unknown && sb.GetStatusReason() == "" {
				t.Errorf("%s says UNKNOWN without a status_reason: want why it cannot be told", where)
			}
			if !unknown && sb.GetState() != want {
				t.Errorf("%s says %s: want %s", where, stage.StateName(sb.GetState()), stage.StateName(want))
			}
		}
	}
	is(providerv1.SandboxState_SANDBOX_STATE_RUNNING)
	box.Run("true").Code(0)
	if !t.Has("pause") {
		return
	}
	pause(t, box)
	is(providerv1.SandboxState_SANDBOX_STATE_PAUSED)
	t.Step("resume")
	_, err := box.Client().ResumeSandbox(t.Context(), &providerv1.ResumeSandboxRequest{Sandbox: box.Ref})
	stage.OK(t, "ResumeSandbox", err)
	await(t, box, providerv1.SandboxState_SANDBOX_STATE_RUNNING)
	is(providerv1.SandboxState_SANDBOX_STATE_RUNNING)
	box.Run("true").Code(0)
}

// pause pauses a sandbox, keeping what there is to be kept.
func pause(t *engine.T, box *stage.Box) {
	t.Step("pause")
	_, err := box.Client().PauseSandbox(t.Context(), &providerv1.PauseSandboxRequest{
		Sandbox: box.Ref, Minimum: stage.Values(t, box).Least("pause"),
	})
	stage.OK(t, "PauseSandbox", err)
	await(t, box, providerv1.SandboxState_SANDBOX_STATE_PAUSED)
}

func await(t *engine.T, box *stage.Box, want providerv1.SandboxState) {
	passing := []providerv1.SandboxState{providerv1.SandboxState_SANDBOX_STATE_PAUSING, providerv1.SandboxState_SANDBOX_STATE_RESUMING}
	stage.Eventually(t, settling, stage.StateName(want), func(context.Context) bool {
		return !slices.Contains(passing, box.Get().GetState())
	})
}
