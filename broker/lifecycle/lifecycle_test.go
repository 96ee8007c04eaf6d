package lifecycle_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// events names the events that transcripts use.
func events() map[string]lifecycle.Event {
	out := map[string]lifecycle.Event{
		"ask pause": lifecycle.AskPause(""), "ask resume": lifecycle.AskResume(), "ask delete": lifecycle.AskDelete(""), "ask use": lifecycle.AskUse(),
		"absent": lifecycle.Absent(""), "removed": lifecycle.Removed(""), "refused": lifecycle.Refused("no", false), "refused for good": lifecycle.Refused("no", true),
		"lost": lifecycle.Lost("cut"), "unreachable": lifecycle.Unreachable("down"),
	}
	for n := range providerv1.SandboxState_name {
		ev := lifecycle.Observed(providerv1.SandboxState(n), "")
		out[ev.String()] = ev
	}
	return out
}

func show(s lifecycle.Status) string {
	out := lifecycle.Name(s.State)
	if s.Gone {
		out = "GONE"
	}
	if s.Pending != lifecycle.None {
		out += "/" + s.Pending.String()
	}
	return out
}

// TestTranscripts replays lives of sandboxes. A line is an event, what it makes
// of the status, and what has to be done.
func TestTranscripts(t *testing.T) {
	for _, tc := range []struct{ name, script string }{
		{"a plain life", `
			observed RUNNING -> RUNNING
			ask use -> RUNNING
			ask pause -> PAUSING/pause: call pause
			observed PAUSED -> PAUSED
			ask pause -> PAUSED
			ask use -> refused PAUSED
			ask resume -> RESUMING/resume: call resume
			observed RUNNING -> RUNNING
			ask delete -> DELETING/delete: call delete
			absent -> GONE: forget
			ask delete -> GONE
			observed RUNNING -> GONE
			ask use -> refused DELETED`},
		{"a slow create", `
			observed CREATING -> CREATING/create: ask
			ask use -> refused CREATING
			observed RUNNING -> RUNNING`},
		{"a refused create leaves nothing", `
			refused for good -> GONE: forget`},
		{"a lost create that was made", `
			lost -> UNKNOWN/create: ask
			unreachable -> UNKNOWN/create: ask
			ask pause -> refused UNKNOWN
			observed RUNNING -> RUNNING`},
		{"a lost create that was not", `
			lost -> UNKNOWN/create: ask
			absent -> GONE: forget`},
		{"a lost pause that happened", `
			observed RUNNING -> RUNNING
			ask pause -> PAUSING/pause: call pause
			lost -> UNKNOWN/pause: ask
			observed PAUSED -> PAUSED`},
		{"a lost pause that did not", `
			observed RUNNING -> RUNNING
			ask pause -> PAUSING/pause: call pause
			lost -> UNKNOWN/pause: ask
			observed RUNNING -> RUNNING`},
		{"a refused pause", `
			observed RUNNING -> RUNNING
			ask pause -> PAUSING/pause: call pause
			refused for good -> RUNNING`},
		{"a refused resume", `
			observed PAUSED -> PAUSED
			ask resume -> RESUMING/resume: call resume
			refused -> PAUSED`},
		{"a delete of what may still be made", `
			lost -> UNKNOWN/create: ask
			ask delete -> DELETING/delete: call delete
			removed -> DELETING/delete: ask
			unreachable -> DELETING/delete: ask
			observed RUNNING -> DELETING/delete: call delete
			removed -> GONE: forget`},
		{"a delete of what never will be", `
			ask delete -> DELETING/delete: call delete
			removed -> DELETING/delete: ask
			absent -> GONE: forget`},
		{"a refused delete of what may still be made", `
			lost -> UNKNOWN/create: ask
			ask delete -> DELETING/delete: call delete
			refused for good -> UNKNOWN/create: ask`},
		{"a delete is repeated until it is done", `
			observed RUNNING -> RUNNING
			ask delete -> DELETING/delete: call delete
			lost -> DELETING/delete: ask
			observed RUNNING -> DELETING/delete: call delete
			unreachable -> DELETING/delete: ask
			observed DELETING -> DELETING/delete: ask
			refused -> DELETING/delete: ask
			absent -> GONE: forget`},
		{"a delete that is refused for good", `
			observed RUNNING -> RUNNING
			ask delete -> DELETING/delete: call delete
			refused for good -> RUNNING: ask`},
		{"a sandbox that dies", `
			observed RUNNING -> RUNNING
			absent -> FAILED
			unreachable -> FAILED
			ask use -> refused FAILED
			ask delete -> DELETING/delete: call delete
			absent -> GONE: forget`},
		{"a provider that goes and comes back", `
			observed PAUSED -> PAUSED
			unreachable -> UNKNOWN: ask
			ask resume -> refused UNKNOWN
			observed PAUSED -> PAUSED`},
		{"the vendor ends it by itself", `
			observed RUNNING -> RUNNING
			observed DELETING -> DELETING: ask
			absent -> GONE: forget`},
		{"a provider that contradicts itself", `
			observed RUNNING -> RUNNING
			observed CREATING -> UNKNOWN: ask
			observed RUNNING -> RUNNING`},
	} {
		t.Run(tc.name, func(t *testing.T) { replay(t, tc.script) })
	}
}

func replay(t *testing.T, script string) {
	t.Helper()
	all := events()
	status := lifecycle.New()
	for line := range strings.Lines(strings.TrimSpace(script)) {
		name, want, _ := strings.Cut(strings.TrimSpace(line), " -> ")
		ev, ok := all[name]
		if !ok {
			t.Fatalf("no event %q", name)
		}
		next, actions, err := lifecycle.Step(status, ev)
		got := show(next)
		if len(actions) > 0 {
			names := make([]string, len(actions))
			for i, a := range actions {
				names[i] = a.String()
			}
			got += ": " + strings.Join(names, ", ")
		}
		if err != nil {
			got = "refused " + fault.From(err).Metadata["state"]
		}
		if got != want {
			t.Fatalf("%s: %s -> %s, want %s", show(status), name, got, want)
		}
		status = next
	}
}

// TestPromises checks, for random lives, what must hold of every life.
func TestPromises(t *testing.T) {
	all := events()
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	rapid.Check(t, func(t *rapid.T) {
		status, made := lifecycle.New(), false
		for _, name := range rapid.SliceOf(rapid.SampledFrom(names)).Draw(t, "life") {
			next, actions, err := lifecycle.Step(status, all[name])
			if broken := promise(status, next, actions, err, name, made); broken != "" {
				t.Fatalf("%s: %s -> %s %v: %s", show(status), name, show(next), actions, broken)
			}
			made = made || !next.Undecided()
			status = next
		}
	})
}

func promise(was, is lifecycle.Status, actions []lifecycle.Action, err error, event string, made bool) string {
	has := func(a lifecycle.Action) bool { return slices.Contains(actions, a) }
	switch {
	case err != nil && (is != was || len(actions) > 0):
		return "a refusal changed something"
	case err != nil && !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING):
		return fmt.Sprintf("refused with %v", err)
	case err != nil && fault.From(err).Metadata["state"] == "":
		return "a refusal without the state"
	case was.Gone && (!is.Gone || len(actions) > 0):
		return "it came back"
	case was.Undecided() && is.Gone && event == "removed":
		return "its create may still arrive"
	case made && (is.State == providerv1.SandboxState_SANDBOX_STATE_CREATING || is.Pending == lifecycle.Create):
		return "it was made twice"
	case is.Gone && !was.Gone && !has(lifecycle.Forget):
		return "it is gone and was not forgotten"
	case has(lifecycle.CallDelete) && is.Pending != lifecycle.Delete:
		return "a delete nobody asked for"
	case has(lifecycle.CallPause) && event != "ask pause", has(lifecycle.CallResume) && event != "ask resume":
		return "a call nobody asked for"
	case err == nil && !is.Settled() && len(actions) == 0 && event != "ask pause" && is != was:
		return "it is unsettled and nobody will look"
	case was.Pending == lifecycle.Delete && !is.Gone && is.Pending != lifecycle.Delete && event != "refused for good":
		return "the wish to delete was forgotten"
	}
	return ""
}
