package exactlyonce_test

import (
	"encoding/json"
	"slices"
	"strings"
	"syscall"
	"testing"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/broker/state/postgres/pgtest"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// replicas returns three brokers that run on one database and one cloud.
func replicas(t *testing.T, faults ...string) (*cloud, []*world) {
	t.Helper()
	c, db := newCloud(t, faults...), database{pgtest.URL(t), true}
	var out []*world
	for range 3 {
		w := newWorld(t, vendors{"remote": {"cloud": c.socket}}, db)
		w.serve()
		out = append(out, w)
	}
	return c, out
}

// cli runs a command against a broker and returns what it said.
func (w *world) cli(args ...string) string {
	w.t.Helper()
	cmd := w.sandbar(w.dir+"/a.sock", args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("sandbar %q: %v: %s%s", args, err, out, errs.String())
	}
	return strings.TrimSpace(string(out))
}

// TestAnyReplicaServesAnyCall: what one broker made is every broker's.
func TestAnyReplicaServesAnyCall(t *testing.T) {
	t.Parallel()
	c, w := replicas(t)
	a, b, third := w[0], w[1], w[2]
	if a.owner != b.owner || b.owner != third.owner {
		t.Errorf("the brokers have the ids %s, %s and %s, want the same", a.owner, b.owner, third.owner)
	}
	id := a.cli("create", "--name", "box")
	if got := b.cli("exec", "box", "--", "sh", "-c", "echo kept > /tmp/f; echo $((6*7))"); got != "42" {
		t.Errorf("another broker ran the command and shows %q", got)
	}
	if got := third.cli("exec", id, "--", "cat", "/tmp/f"); got != "kept" {
		t.Errorf("the third shows %q", got)
	}
	var told struct {
		Sandbox string `json:"sandbox_id"`
		Cursor  string
	}
	first, _, _ := strings.Cut(b.cli("events", "--since", "oldest", "--until-now", "--json"), "\n")
	if err := json.Unmarshal([]byte(first), &told); err != nil || told.Sandbox != id {
		t.Errorf("the first event at another broker is %q: %v", first, err)
	}
	third.cli("rm", "box")
	if rest := a.cli("events", "--since", told.Cursor, "--until-now", "--json"); !strings.Contains(rest, "SANDBOX_DELETED") {
		t.Errorf("behind the other broker's cursor the first one tells %q", rest)
	}
	if got := a.cli("ls", "--json"); strings.Contains(got, id) {
		t.Errorf("the first one still lists %s", got)
	}
	if left := c.listing(a.owner); len(left) != 0 {
		t.Errorf("the cloud still has %v", left)
	}
}

// TestStreamOfAKilledReplica: a command's output goes on through another broker at
// the byte at which the first one was killed.
func TestStreamOfAKilledReplica(t *testing.T) {
	t.Parallel()
	_, w := replicas(t)
	sent := w[0].upload()
	out := w[0].reading("exec", "box", "--", "cat", "/tmp/sent")
	at := points(2)
	out.to(at[0])
	out.line.lead(w[1])
	w[0].kill()
	out.to(at[1])
	out.line.lead(w[2])
	w[1].kill()
	if code := out.end(); code != 0 || out.errs.String() != "" {
		t.Errorf("exit code %d, stderr %q", code, out.errs.String())
	}
	same(t, out.got.Bytes(), sent)
}

// TestAReplicaFinishesWhatAnotherBegan: a broker that is killed for good while the
// cloud works for it leaves nothing behind that the others do not settle.
func TestAReplicaFinishesWhatAnotherBegan(t *testing.T) {
	for fault, made := range map[string]int{"hang": 0, "hang_after": 1} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			c, w := replicas(t, "CreateSandbox:"+fault+":1")
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = w[0].api.CreateSandbox(t.Context(), connect.NewRequest(&brokerv1.CreateSandboxRequest{Name: "n"})) // it is killed
			}()
			w[1].eventually("the row of the create", func() (bool, string) {
				list, err := w[1].list()
				return len(list) == 1 && err == nil, ""
			})
			w[1].eventually("the call at the cloud", func() (bool, string) { return made == 0 || len(c.listing(w[1].owner)) == made, "" })
			w[0].kill()
			<-done
			known := w[1].settled()
			if there := c.listing(w[2].owner); len(known) != made || !slices.Equal(there, known) {
				t.Errorf("the cloud has %v, the brokers know %v, want %d", there, known, made)
			}
			w[2].cli("create", "--name", "n2")
		})
	}
}

// TestADatabaseIsNotSharedByAccident: a broker with another idea of the database is
// refused in words, and the one that has it works on.
func TestADatabaseIsNotSharedByAccident(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	first := newWorld(t, vendors{"fake": {}}, database{url: url})
	first.serve()
	second := newWorld(t, vendors{"fake": {}}, database{url: url})
	cmd := second.sandbar("", "serve", "--config", second.dir+"/c.yaml")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another broker uses the database") || !strings.Contains(string(out), "database.shared") {
		t.Errorf("the second broker ended with %v: %s", err, out)
	}
	first.cli("run", "--", "true")
	first.end(syscall.SIGTERM)
	second.serve() // now it can
}
