package observation_test

import (
	"bufio"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// eventOf is a line of `sandbar events --json`.
type eventOf struct {
	Cursor, Type, Provider, State, Reason string
	Sandbox                               string `json:"sandbox_id"`
	Before                                string `json:"previous_state"`
	Trace                                 string `json:"trace_id"`
	Gap                                   *struct{ Reason string }
}

func (b *broker) events(args ...string) []eventOf {
	b.t.Helper()
	var out []eventOf
	for line := range strings.SplitSeq(b.ok(append([]string{"events", "--until-now", "--json"}, args...)...), "\n") {
		if line == "" {
			continue
		}
		var e eventOf
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			b.t.Fatalf("%q: %v", line, err)
		}
		out = append(out, e)
	}
	return out
}

// short says what an event is in a few words.
func (e eventOf) short() string {
	cut := strings.TrimPrefix
	return cut(e.Type, "EVENT_TYPE_SANDBOX_") + " " + cut(e.Before, "SANDBOX_STATE_") + ">" + cut(e.State, "SANDBOX_STATE_")
}

// life is what is told of a sandbox that is made, paused, resumed and removed.
var life = []string{
	"CREATING UNSPECIFIED>CREATING", "STATE_CHANGED CREATING>RUNNING",
	"STATE_CHANGED RUNNING>PAUSING", "STATE_CHANGED PAUSING>PAUSED",
	"STATE_CHANGED PAUSED>RESUMING", "STATE_CHANGED RESUMING>RUNNING",
	"STATE_CHANGED RUNNING>DELETING", "DELETED DELETING>UNSPECIFIED",
}

// TestEvents: what happened is told in order from any cursor on, also after the
// broker was killed and started again.
func TestEvents(t *testing.T) {
	t.Parallel()
	b := serve(t, "")
	id := b.ok("create")
	other := b.ok("create")
	b.ok("pause", id)
	b.ok("resume", id)
	b.ok("rm", id)
	all := b.events("--since", "oldest", "--sandbox", id)
	var got []string
	for _, e := range all {
		if e.Sandbox != id || e.Provider != "fake" {
			t.Errorf("among the events of %s is %+v", id, e)
		}
		got = append(got, e.short())
	}
	if !slices.Equal(got, life) {
		t.Fatalf("its events are\n%q, want\n%q", got, life)
	}
	for i, e := range all {
		if rest := b.events("--since", e.Cursor, "--sandbox", id); len(rest) != len(all)-i-1 || len(rest) > 0 && rest[0] != all[i+1] {
			t.Errorf("after event %d come %+v", i, rest)
		}
	}
	if n := len(b.events()); n != 0 {
		t.Errorf("%d events happened since now", n)
	}
	if _, code := b.sandbar("events", "--since", "nonsense", "--until-now"); code == 0 {
		t.Error("nonsense is a cursor")
	}
	whole := b.events("--since", "oldest")
	if last := whole[len(whole)-1]; last.Sandbox != id || !slices.ContainsFunc(whole, func(e eventOf) bool { return e.Sandbox == other }) {
		t.Errorf("all events are %+v", whole)
	}
}

// TestEventsAcrossARestart: a follower goes on by itself when the broker comes
// back, and misses nothing of what happened.
func TestEventsAcrossARestart(t *testing.T) {
	t.Parallel()
	b := serve(t, "")
	follower := exec.Command(filepath.Join(binaries, "sandbar"), "--server", "unix://"+b.socket, "events", "--since", "oldest", "--json")
	follower.Env = []string{"HOME=" + b.dir}
	out, err := follower.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follower.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = follower.Wait() }()
	defer func() { _ = follower.Process.Signal(syscall.SIGKILL) }()
	lines := bufio.NewScanner(out)
	next := func() eventOf {
		t.Helper()
		var e eventOf
		if !lines.Scan() {
			t.Fatalf("the follower ended: %v", lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	one := b.ok("create")
	if a, c := next(), next(); a.Sandbox != one || c.Sandbox != one || c.State != "SANDBOX_STATE_RUNNING" {
		t.Errorf("the first events are %+v and %+v", a, c)
	}
	again := b.restart(syscall.SIGKILL)
	two := again.ok("create")
	for e := next(); ; e = next() { // of the first one, that nobody could ask about it for a while
		if e.Gap != nil {
			t.Fatalf("a gap: %+v", e)
		}
		if e.Sandbox == two {
			break
		}
	}
	if e := next(); e.Sandbox != two || e.State != "SANDBOX_STATE_RUNNING" {
		t.Errorf("then came %+v", e)
	}
}

// TestLogsAndEventsNameTheTrace: what a command did is found in log and events by
// the trace that it was.
func TestLogsAndEventsNameTheTrace(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	b := serve(t, "telemetry: {traces: {endpoint: \""+c.URL+"\"}}\n")
	const trace = "0af7651916cd43dd8448eb211c80319c"
	b.env = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.URL, "TRACEPARENT=00-" + trace + "-b7ad6b7169203331-01"}
	id := b.ok("create")
	for _, e := range b.events("--since", "oldest", "--sandbox", id) {
		if e.Trace != trace {
			t.Errorf("event %+v is of another trace", e)
		}
	}
	var line map[string]any
	if err := json.Unmarshal([]byte(b.await(`"msg":"sandbox changed"`)), &line); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"trace_id": trace, "sandbox_id": id, "provider": "fake", "to": "RUNNING"} {
		if line[key] != want {
			t.Errorf("the log has %s %v, want %s: %v", key, line[key], want, line)
		}
	}
}
