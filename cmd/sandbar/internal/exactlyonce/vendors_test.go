package exactlyonce_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/broker/pluginhost"
	"github.com/sandbar-dev/sandbar/broker/provider"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// stateOf is where a vendor keeps its objects.
func (w *world) stateOf(name string) string {
	found, _ := filepath.Glob(filepath.Join(w.dir, "s", "plugins", name))
	if len(found) == 0 {
		return filepath.Join(w.dir, "none")
	}
	return found[0]
}

// objects are the sandboxes and snapshots that the vendors have stored, read without
// asking anybody.
func (w *world) objects() []string {
	var out []string
	for _, name := range w.providers {
		for _, class := range []string{"sandboxes", "snapshots"} {
			files, _ := filepath.Glob(filepath.Join(w.stateOf(name), class, "*.gob"))
			for _, f := range files {
				if id := strings.TrimSuffix(filepath.Base(f), ".gob"); !strings.HasPrefix(id, ".") {
					out = append(out, id)
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// fired reports how many calls a vendor's faults have hit.
func (w *world) fired(name string) (n int) {
	data, err := os.ReadFile(filepath.Join(w.stateOf(name), "faults", "tally.gob"))
	if err != nil {
		return 0
	}
	var tally struct {
		Starts uint64
		Fired  map[string]int
	}
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(&tally); err != nil {
		w.t.Error(err)
	}
	for _, times := range tally.Fired {
		n += times
	}
	return n
}

// listing asks the vendors themselves, by plugins of this test's own that have
// no faults. No broker may run.
func (w *world) listing() []string {
	w.t.Helper()
	opts := pluginhost.Options{
		RuntimeDir: filepath.Join(w.dir, "l"), StateDir: filepath.Join(w.dir, "s", "plugins"),
		LockFile: filepath.Join(w.dir, "lock"), Owner: w.owner,
	}
	opts.Dirs = []pluginhost.Dir{{Path: w.dir, Trust: pluginhost.TrustLocation}}
	for _, name := range w.providers {
		opts.Plugins = append(opts.Plugins, pluginhost.Config{Name: name})
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), patience)
	defer cancel()
	host, err := pluginhost.New(opts)
	if err != nil {
		w.t.Fatal(err)
	}
	err = host.Start(ctx)
	defer func() {
		if err := host.Close(ctx); err != nil {
			w.t.Error(err)
		}
	}()
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, conn := range host.Plugins() {
		out = append(out, w.listingOf(ctx, provider.New(conn.Name(), conn, provider.Options{}))...)
	}
	slices.Sort(out)
	return out
}

// listingOf asks one vendor for its sandboxes and snapshots.
func (w *world) listingOf(ctx context.Context, p *provider.Provider) (out []string) {
	w.t.Helper()
	for token := ""; ; {
		resp, err := p.ListSandboxes(ctx, &providerv1.ListSandboxesRequest{Owner: w.owner, PageSize: 100, PageToken: token})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, sb := range resp.GetSandboxes() {
			out = append(out, sb.GetIdentity().GetSandboxId())
		}
		if token = resp.GetNextPageToken(); token == "" {
			break
		}
	}
	set, err := p.Capabilities(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	if !set.Has("snapshot") {
		return out
	}
	resp, err := p.ListSnapshots(ctx, &providerv1.ListSnapshotsRequest{Owner: w.owner, PageSize: 100})
	if err != nil || resp.GetNextPageToken() != "" {
		w.t.Fatalf("the snapshots of %s are %v, %v; want one page", p.Name(), resp, err)
	}
	for _, sn := range resp.GetSnapshots() {
		out = append(out, sn.GetSnapshotId())
	}
	return out
}

var errMany = errors.New("too many objects")

// watch looks at the vendors all the time, for the moments between the steps. The
// returned func ends it and says whether there were ever more objects than most.
func (w *world) watch(most int) (end func() error) {
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			if all := w.objects(); len(all) > most {
				done <- fmt.Errorf("%w: %v, want at most %d", errMany, all, most)
				return
			}
			select {
			case <-tick.C:
			case <-stop:
				done <- nil
				return
			}
		}
	}()
	return func() error { close(stop); return <-done }
}
