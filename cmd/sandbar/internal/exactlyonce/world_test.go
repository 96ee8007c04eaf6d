package exactlyonce_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/broker/api/apiclient"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// patience bounds everything a test waits for, far above what anything takes.
const patience = 2 * time.Minute

// world is a broker with its state and its vendors.
type world struct {
	t         *testing.T
	dir       string
	providers []string
	api       *apiclient.Client
	broker    *process
	owner     string
}

// vendors are the settings of each provider; all are fakes.
type vendors map[string]map[string]any

// database is a PostgreSQL database.
type database struct {
	url string
	// shared is true for replicas.
	shared bool
}

// newWorld returns a world whose broker is not started yet; its state is in the
// database, or SQLite if there is none.
func newWorld(t *testing.T, v vendors, in ...database) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "x") // short, as the paths of sockets must be
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, api: apiclient.Unix(filepath.Join(dir, "a.sock"))}
	var conf strings.Builder
	fmt.Fprintf(&conf, "listen: {unix: %s/a.sock}\nstate_dir: %s/s\nruntime_dir: %s/r\n", dir, dir, dir)
	shared := false
	for _, db := range in {
		fmt.Fprintf(&conf, "database: {url: '%s', shared: %t}\n", db.url, db.shared)
		shared = db.shared
	}
	conf.WriteString("providers:\n")
	for name := range v {
		w.providers = append(w.providers, name)
	}
	slices.Sort(w.providers)
	for _, name := range w.providers {
		fmt.Fprintf(&conf, "  - name: %s\n    shared: %t\n    settings:\n", name, shared)
		if err := os.Link(filepath.Join(binaries, "vendor"), filepath.Join(dir, "sandbar-provider-"+name)); err != nil {
			t.Fatal(err)
		}
		for key, value := range v[name] {
			fmt.Fprintf(&conf, "      %s: %s\n", key, yaml(value))
		}
		if name != "remote" {
			fmt.Fprintf(&conf, "      regions: [fake-east]\n")
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "c.yaml"), []byte(conf.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.stop()
		w.api.Close()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return w
}

func yaml(v any) string {
	if list, ok := v.([]string); ok {
		return "[" + strings.Join(list, ", ") + "]"
	}
	return fmt.Sprint(v)
}

// process is a broker.
type process struct {
	cmd *exec.Cmd
	// said are the lines of its standard output.
	said chan string
	done chan struct{}
}

// start starts a broker that will stand still where stop says, once it is armed.
func (w *world) start(stop string) {
	w.t.Helper()
	args := []string{"-config", filepath.Join(w.dir, "c.yaml"), "-plugins", w.dir, "-stop", stop, "-writes", w.writesFile()}
	w.run(exec.CommandContext(context.Background(), filepath.Join(binaries, "broker"), args...))
	w.says("ready")
	w.know()
}

// writesFile has the writes of the journal since the broker was armed.
func (w *world) writesFile() string { return filepath.Join(w.dir, "writes") }

// serve starts `sandbar serve`.
func (w *world) serve() {
	w.t.Helper()
	cmd := exec.CommandContext(context.Background(), filepath.Join(binaries, "sandbar"), "serve", "--config", filepath.Join(w.dir, "c.yaml"))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "XDG_STATE_HOME=" + w.dir + "/sh", "XDG_RUNTIME_DIR=" + w.dir + "/rh"}
	w.run(cmd)
	w.know()
}

func (w *world) run(cmd *exec.Cmd) {
	w.t.Helper()
	log, err := os.OpenFile(filepath.Join(w.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	p := &process{cmd: cmd, said: make(chan string, 10), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.said <- lines.Text()
		}
		_ = cmd.Wait() // what it was killed by is known
	}()
	w.broker = p
}

// know waits until the API answers and the providers can be called, and for the
// broker's id.
func (w *world) know() {
	w.t.Helper()
	w.eventually("the broker to answer", func() (bool, string) {
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
		defer cancel()
		res, err := w.api.Admin.GetServer(ctx, connect.NewRequest(&brokerv1.GetServerRequest{}))
		if err != nil {
			return false, err.Error()
		}
		w.owner = res.Msg.GetOwner()
		all, err := w.api.Admin.ListProviders(ctx, connect.NewRequest(&brokerv1.ListProvidersRequest{}))
		if err != nil {
			return false, err.Error()
		}
		for _, p := range all.Msg.GetProviders() {
			if p.GetState() != brokerv1.PluginState_PLUGIN_STATE_READY {
				return false, p.String()
			}
		}
		return true, ""
	})
}

func (w *world) says(want string) {
	w.t.Helper()
	select {
	case line := <-w.broker.said:
		if line != want {
			w.t.Fatalf("the broker said %q, want %q", line, want)
		}
	case <-w.broker.done:
		w.t.Fatalf("the broker ended instead of saying %q:\n%s", want, w.log())
	case <-time.After(patience):
		w.t.Fatalf("the broker did not say %q:\n%s", want, w.log())
	}
}

func (w *world) arm() {
	w.t.Helper()
	if err := w.broker.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		w.t.Fatal(err)
	}
	w.says("armed")
}

// kill ends the broker with SIGKILL.
func (w *world) kill() { w.end(syscall.SIGKILL) }

// stop ends it in good order, if there is one.
func (w *world) stop() { w.end(syscall.SIGTERM) }

func (w *world) end(sig syscall.Signal) {
	if w.broker == nil {
		return
	}
	_ = w.broker.cmd.Process.Signal(sig) // unless it has ended
	select {
	case <-w.broker.done:
	case <-time.After(patience):
		_ = w.broker.cmd.Process.Kill()
		w.t.Errorf("the broker does not end:\n%s", w.log())
	}
	w.broker = nil
}

func (w *world) log() string {
	text, err := os.ReadFile(filepath.Join(w.dir, "log"))
	return fmt.Sprintf("%s %v", text[max(0, len(text)-6000):], err)
}

func (w *world) eventually(what string, met func() (bool, string)) {
	w.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		yes, saw := met()
		if yes {
			return
		}
		select {
		case <-tick.C:
		case <-limit.C:
			w.t.Fatalf("waited in vain for %s; last seen: %s\n%s", what, saw, w.log())
		}
	}
}

// list is the API's own listing.
func (w *world) list() ([]*brokerv1.Sandbox, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	var out []*brokerv1.Sandbox
	for token := ""; ; {
		res, err := w.api.ListSandboxes(ctx, connect.NewRequest(&brokerv1.ListSandboxesRequest{PageSize: 100, PageToken: token}))
		if err != nil {
			return nil, err
		}
		out = append(out, res.Msg.GetSandboxes()...)
		if token = res.Msg.GetNextPageToken(); token == "" {
			return out, nil
		}
	}
}

func ids(list []*brokerv1.Sandbox) []string {
	var out []string
	for _, sb := range list {
		out = append(out, sb.GetSandboxId())
	}
	slices.Sort(out)
	return out
}

// settled waits until every row says something definite, and returns the ids of the
// sandboxes and the snapshots that the broker lists.
func (w *world) settled() []string {
	w.t.Helper()
	var out []string
	w.eventually("every row to be settled", func() (bool, string) {
		list, err := w.list()
		if err != nil {
			return false, err.Error()
		}
		for _, sb := range list {
			switch sb.GetState() {
			case providerv1.SandboxState_SANDBOX_STATE_RUNNING, providerv1.SandboxState_SANDBOX_STATE_PAUSED:
			case providerv1.SandboxState_SANDBOX_STATE_FAILED:
				w.t.Errorf("%s is FAILED: %s", sb.GetSandboxId(), sb.GetStatusReason())
			default:
				return false, sb.String()
			}
		}
		ctx, cancel := context.WithTimeout(w.t.Context(), patience)
		defer cancel()
		snapshots, err := w.api.ListSnapshots(ctx, connect.NewRequest(&brokerv1.ListSnapshotsRequest{}))
		if err != nil {
			return false, err.Error()
		}
		out = ids(list)
		for _, sn := range snapshots.Msg.GetSnapshots() {
			if sn.GetState() != brokerv1.SnapshotState_SNAPSHOT_STATE_READY {
				return false, sn.String()
			}
			out = append(out, sn.GetSnapshotId())
		}
		slices.Sort(out)
		return true, ""
	})
	return out
}

// remove deletes a sandbox or a snapshot, as often as it takes.
func (w *world) remove(id string) {
	w.t.Helper()
	w.eventually("the delete of "+id, func() (bool, string) {
		err := w.tryRemove(id)
		return err == nil, fmt.Sprint(err)
	})
}

func (w *world) tryRemove(id string) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if strings.HasPrefix(id, "snp_") {
		_, err := w.api.DeleteSnapshot(ctx, connect.NewRequest(&brokerv1.DeleteSnapshotRequest{Snapshot: id}))
		return err
	}
	_, err := w.api.DeleteSandbox(ctx, connect.NewRequest(&brokerv1.DeleteSandboxRequest{Sandbox: id}))
	return err
}
