package supervisor_test

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/broker/pluginhost/supervisor"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// TestTranscripts replays testdata/*.txt. A line is a time since the beginning,
// an event, and after "=>" what the machine made of it: state, actions, when it
// wants to be woken, and why it is not ready. Jitter is always the whole limit.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("transcripts: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := replay(t, want)
			if *update {
				if err := os.WriteFile(file, got, 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", file, diff)
			}
		})
	}
}

func replay(t *testing.T, script []byte) []byte {
	t.Helper()
	m := supervisor.New(supervisor.Defaults(), func(limit time.Duration) time.Duration { return limit })
	var out bytes.Buffer
	for lines := bufio.NewScanner(bytes.NewReader(script)); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "=>")
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			fmt.Fprintln(&out, line)
			continue
		}
		at, rest, _ := strings.Cut(line, " ")
		since, err := time.ParseDuration(at)
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		now := epoch.Add(since)
		actions := m.Step(now, event(t, strings.TrimSpace(rest)))
		fmt.Fprintf(&out, "%-48s=> %s\n", line, outcome(m, actions))
	}
	return out.Bytes()
}

func event(t *testing.T, text string) supervisor.Event {
	t.Helper()
	fields := strings.SplitN(text, " ", 3)
	var gen uint64
	var rest string
	if len(fields) > 1 {
		var err error
		if gen, err = strconv.ParseUint(fields[1], 10, 64); err != nil {
			t.Fatalf("event %q: %v", text, err)
		}
	}
	if len(fields) > 2 {
		rest = fields[2]
	}
	var reasons []string
	if rest != "" {
		reasons = strings.Split(rest, ",")
	}
	switch fields[0] {
	case "want":
		return supervisor.Want{}
	case "restart":
		return supervisor.Restart{}
	case "stop":
		return supervisor.Stop{}
	case "tick":
		return supervisor.Tick{}
	case "connected":
		return supervisor.Connected{Gen: gen}
	case "configured":
		return supervisor.Configured{Gen: gen, Reasons: reasons}
	case "probed":
		return supervisor.Probed{Gen: gen, Reasons: reasons}
	case "health":
		return supervisor.Health{Gen: gen, Missed: rest}
	case "exited":
		return supervisor.Exited{Gen: gen, Reason: rest}
	case "hopeless":
		return supervisor.Exited{Gen: gen, Reason: rest, Hopeless: true}
	}
	t.Fatalf("unknown event %q", text)
	return nil
}

func outcome(m *supervisor.Machine, actions []supervisor.Action) string {
	words := []string{m.State().String()}
	for _, a := range actions {
		words = append(words, a.String())
	}
	if wake, ok := m.Wake(); ok {
		words = append(words, "wake "+wake.Sub(epoch).String())
	}
	if m.Reason() != "" {
		words = append(words, "because: "+m.Reason())
	}
	return strings.Join(words, ", ")
}

// TestNeverTwoProcesses feeds random events, of live and of dead processes, and
// checks what must hold in any order.
func TestNeverTwoProcesses(t *testing.T) {
	limits := supervisor.Defaults()
	rapid.Check(t, func(t *rapid.T) {
		m := supervisor.New(limits, func(limit time.Duration) time.Duration {
			return time.Duration(rapid.Int64Range(0, int64(limit)).Draw(t, "jitter"))
		})
		model := model{t: t, limits: limits}
		for range rapid.IntRange(1, 200).Draw(t, "events") {
			model.now = model.now.Add(time.Duration(rapid.Int64Range(0, int64(40*time.Second)).Draw(t, "pause")))
			gen := m.Generation()
			if gen > 0 && rapid.IntRange(0, 9).Draw(t, "stale") == 0 {
				gen--
			}
			ev := randomEvent(t, rapid.IntRange(0, 9).Draw(t, "kind"), gen)
			before, current := m.State(), gen == m.Generation()
			model.event(ev, before, current)
			model.actions(m, m.Step(model.now, ev))
			model.check(m, ev)
		}
	})
}

// model is what the property keeps apart from the machine.
type model struct {
	t      *rapid.T
	limits supervisor.Limits
	now    time.Time
	alive  bool
	exits  []time.Time
}

func (o *model) event(ev supervisor.Event, before supervisor.State, current bool) {
	switch ev.(type) {
	case supervisor.Exited:
		if o.alive && current {
			o.alive = false
			if before != supervisor.Stopped { // not ordered
				o.exits = append(o.exits, o.now)
			}
		}
	case supervisor.Restart:
		o.exits = nil
	}
}

func (o *model) actions(m *supervisor.Machine, actions []supervisor.Action) {
	for _, a := range actions {
		switch {
		case a.Gen != m.Generation():
			o.t.Fatalf("%s concerns another generation than %d", a, m.Generation())
		case a.Act == supervisor.Launch && o.alive:
			o.t.Fatalf("%s while a process is alive", a)
		case a.Act != supervisor.Launch && !o.alive:
			o.t.Fatalf("%s while no process is alive", a)
		}
		o.alive = true
	}
}

func (o *model) check(m *supervisor.Machine, ev supervisor.Event) {
	if m.Alive() != o.alive {
		o.t.Fatalf("Alive is %v, want %v", m.Alive(), o.alive)
	}
	if m.State().Serving() && !o.alive {
		o.t.Fatalf("%s without a process", m.State())
	}
	_, wakes := m.Wake()
	waits := m.State() == supervisor.Backoff || m.State() == supervisor.Quarantined
	if waits && (o.alive || !wakes) {
		o.t.Fatalf("%s with process %v and wake %v", m.State(), o.alive, wakes)
	}
	if m.State() == supervisor.Quarantined {
		o.exits = nil // what comes out of it starts afresh when it proves stable
	}
	o.exits = slices.DeleteFunc(o.exits, func(x time.Time) bool { return o.now.Sub(x) > o.limits.Window })
	if _, exited := ev.(supervisor.Exited); exited && m.State() == supervisor.Backoff && len(o.exits) >= o.limits.MaxExits {
		o.t.Fatalf("%d exits within %s and no quarantine", len(o.exits), o.limits.Window)
	}
}

func randomEvent(t *rapid.T, kind int, gen uint64) supervisor.Event {
	var reasons []string
	missed := ""
	if rapid.Bool().Draw(t, "bad") {
		reasons, missed = []string{"quota"}, "deadline"
	}
	switch kind {
	case 0:
		return supervisor.Want{}
	case 1:
		return supervisor.Restart{}
	case 2:
		return supervisor.Stop{}
	case 3:
		return supervisor.Connected{Gen: gen}
	case 4:
		return supervisor.Configured{Gen: gen, Reasons: reasons}
	case 5:
		return supervisor.Exited{Gen: gen, Reason: "crash"}
	case 6:
		return supervisor.Probed{Gen: gen, Reasons: reasons}
	case 7:
		return supervisor.Health{Gen: gen, Missed: missed}
	default:
		return supervisor.Tick{}
	}
}
