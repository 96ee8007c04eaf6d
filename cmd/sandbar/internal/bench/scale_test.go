package bench

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"
	_ "modernc.org/sqlite" // the broker's database is looked into

	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

var (
	scaleFlag     = flag.Int("scale", 0, "sandboxes to fill a broker with; 0: do not")
	streamsFlag   = flag.Int("streams", 1000, "commands to follow at once in the filled broker")
	scalePageFlag = flag.String("scale-page", "", "Markdown file to write what was measured to; its plot goes beside it")
)

const (
	// makers create at once while the broker is filled.
	makers = 16
	// lookups is how many single sandboxes are asked for at each size, from askers
	// clients at once.
	lookups, askers = 2000, 4
	// pages and lives are rounds of a listing's first page, and of a sandbox that is
	// made and deleted.
	pages, lives = 200, 100
	// streamTime is how long all streams are open, and beat how often each sends a line
	// and gets it back.
	streamTime, beat = 20 * time.Second, time.Second
)

// TestScale fills a broker with sandboxes of the fake provider and measures what
// that costs and what it slows down. It fails when something does not work.
func TestScale(t *testing.T) {
	if *binFlag == "" || *scaleFlag == 0 {
		t.Skip("no -bin and -scale: run make scale")
	}
	bin, err := filepath.Abs(*binFlag)
	if err != nil {
		t.Fatal(err)
	}
	m := &meter{t: t, bin: bin, began: time.Now(), load: load(t)}
	m.stack = startStack(t, bin, "providers: [{name: fake}]\n")
	f := &filled{meter: m}
	page := &ScalePage{}
	for _, size := range append(slices.DeleteFunc([]int{1000, 10_000, 30_000}, func(n int) bool { return n >= *scaleFlag }), *scaleFlag) {
		page.Sizes = append(page.Sizes, f.at(size))
		t.Logf("%d sandboxes: done after %v", size, time.Since(m.began).Round(time.Second))
	}
	page.Streams = f.streams(*streamsFlag)
	page.Facts = m.facts()
	page.Facts[len(page.Facts)-1][1] = fmt.Sprintf("`make scale SANDBOXES=%d STREAMS=%d`, %v", *scaleFlag, *streamsFlag, time.Since(m.began).Round(time.Second))
	if *scalePageFlag == "" {
		t.Log(page.Markdown("plot.svg"))
		return
	}
	plot := strings.TrimSuffix(*scalePageFlag, ".md") + ".svg"
	for file, text := range map[string]string{*scalePageFlag: page.Markdown(filepath.Base(plot)), plot: page.Plot()} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// filled is a broker with many sandboxes.
type filled struct {
	*meter
	ids []string
}

// at fills up to a size and measures there.
func (f *filled) at(size int) ScaleSize {
	f.t.Helper()
	ctx := f.t.Context()
	before, began := len(f.ids), time.Now()
	var mu sync.Mutex
	f.parallel(makers, size-before, func() error {
		id, err := f.create(ctx)
		mu.Lock()
		defer mu.Unlock()
		f.ids = append(f.ids, id)
		return err
	})
	out := ScaleSize{Sandboxes: size, Filled: time.Since(began), Made: size - before}
	out.Get = f.lookups(ctx)
	out.List = f.times(pages, func() {
		res, err := f.stack.client.ListSandboxes(ctx, connect.NewRequest(&brokerv1.ListSandboxesRequest{PageSize: 100}))
		if err != nil || len(res.Msg.GetSandboxes()) != 100 {
			f.t.Fatalf("list: %d sandboxes, %v", len(res.Msg.GetSandboxes()), err)
		}
	})
	out.Life = f.times(lives, func() {
		id, err := f.create(ctx)
		if err != nil {
			f.t.Fatal(err)
		}
		f.stack.remove(f.t, id)
	})
	out.Broker, out.Provider = f.resident()
	out.Disk, out.Rows = f.stored()
	return out
}

// parallel runs f so many times, some at once.
func (f *filled) parallel(at, times int, do func() error) {
	f.t.Helper()
	var g errgroup.Group
	g.SetLimit(at)
	for range times {
		g.Go(do)
	}
	if err := g.Wait(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *filled) create(ctx context.Context) (string, error) {
	res, err := f.stack.client.CreateSandbox(ctx, connect.NewRequest(&brokerv1.CreateSandboxRequest{
		Labels: map[string]string{"team": "t" + strconv.Itoa(rand.IntN(20))},
	}))
	if err != nil {
		return "", fmt.Errorf("create: %w", err)
	}
	return res.Msg.GetSandbox().GetSandboxId(), nil
}

// lookups asks for single sandboxes at random.
func (f *filled) lookups(ctx context.Context) Durations {
	f.t.Helper()
	var mu sync.Mutex
	var out Durations
	f.parallel(askers, lookups, func() error {
		id := f.ids[rand.IntN(len(f.ids))]
		began := time.Now()
		_, err := f.stack.client.GetSandbox(ctx, connect.NewRequest(&brokerv1.GetSandboxRequest{Sandbox: id}))
		mu.Lock()
		defer mu.Unlock()
		out = append(out, time.Since(began))
		return err
	})
	return out
}

// resident returns the memory of the broker and of the provider, in bytes.
func (f *filled) resident() (broker, provider int64) {
	f.t.Helper()
	ctx := f.t.Context()
	server, err := f.stack.client.Admin.GetServer(ctx, connect.NewRequest(&brokerv1.GetServerRequest{}))
	if err != nil {
		f.t.Fatal(err)
	}
	list, err := f.stack.client.Admin.ListProviders(ctx, connect.NewRequest(&brokerv1.ListProvidersRequest{}))
	if err != nil {
		f.t.Fatal(err)
	}
	rss := func(pid int32) int64 {
		kib := field(f.t, fmt.Sprintf("/proc/%d/status", pid), "VmRSS")
		return number(f.t, strings.Fields(kib)[0]) << 10
	}
	return rss(server.Msg.GetPid()), rss(list.Msg.GetProviders()[0].GetPid())
}

// stored returns what the database takes on disk, and its rows.
func (f *filled) stored() (bytes, rows int64) {
	f.t.Helper()
	file := ""
	err := filepath.WalkDir(filepath.Join(f.stack.dir, "s"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(e.Name(), "state.db") {
			info, err := e.Info()
			if err != nil {
				return err
			}
			bytes += info.Size()
			if e.Name() == "state.db" {
				file = path
			}
		}
		return err
	})
	if err != nil || file == "" {
		f.t.Fatalf("the broker's database is not found: %v", err)
	}
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro")
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = db.Close() }() // it was only read
	for _, table := range []string{"sandboxes", "sandbox_labels", "placements", "events"} {
		var n int64
		if err := db.QueryRowContext(f.t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
			f.t.Fatal(err)
		}
		rows += n
	}
	return bytes, rows
}
