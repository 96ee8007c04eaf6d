package load_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// target is a broker whose times are exact.
type target struct {
	create, exec time.Duration
	// fails says which creations fail, and which of those make one all the same.
	fails, fakes func(i int) bool
	// sticks says which sandboxes cannot be removed.
	sticks func(i int) bool

	mu   sync.Mutex
	made int
	live map[string]bool
	most int
}

func never(int) bool { return false }

func newTarget() *target {
	return &target{create: time.Second, exec: 100 * time.Millisecond, fails: never, fakes: never, sticks: never, live: map[string]bool{}}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t *target) Create(ctx context.Context) (string, error) {
	t.mu.Lock()
	i := t.made
	t.made++
	id := strconv.Itoa(i)
	if !t.fails(i) || t.fakes(i) {
		t.live[id] = true
	}
	t.most = max(t.most, len(t.live))
	t.mu.Unlock()
	if err := wait(ctx, t.create); err != nil {
		return "", err
	}
	if t.fails(i) {
		return "", errors.New("no room | at all")
	}
	return id, nil
}

func (t *target) Exec(ctx context.Context, _ string, argv []string, stdout io.Writer) error {
	if err := wait(ctx, t.exec); err != nil {
		return err
	}
	if argv[0] != "dd" {
		return nil
	}
	size, count := 0, 0
	if _, err := fmt.Sscanf(strings.Join(argv[2:], " "), "bs=%d count=%d", &size, &count); err != nil {
		return err
	}
	for range count {
		if _, err := stdout.Write(make([]byte, size)); err != nil {
			return err
		}
	}
	return nil
}

func (t *target) Remove(_ context.Context, id string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i, err := strconv.Atoi(id); err != nil || t.sticks(i) {
		return errors.New("it sticks")
	}
	delete(t.live, id)
	return nil
}

func (t *target) List(context.Context) ([]string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Sorted(maps.Keys(t.live)), nil
}

func plan(modes ...load.Mode) load.Plan {
	return load.Plan{
		Modes: modes, Count: 10, Concurrency: 100, Stagger: 200 * time.Millisecond, Timeout: time.Minute, Limit: time.Hour,
		Execs: 5, StreamBytes: 1 << 20, StreamRounds: 2,
	}
}

func TestModes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tg := newTarget()
		r, err := (&load.Runner{Target: tg, Plan: plan(load.Modes...)}).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []struct {
			mode        load.Mode
			wall, first float64
		}{
			{load.Sequential, 11000, 1100},
			{load.Staggered, 9*200 + 1100, 1100},
			{load.Burst, 1100, 1100},
		} {
			s := r.TTI[i]
			if s.Mode != want.mode || s.Succeeded != 10 || s.SuccessRate != 1 || s.P50MS != 1100 || s.MaxMS != 1100 || s.WallMS != want.wall || s.FirstMS != want.first {
				t.Errorf("%s: %+v, want %+v", want.mode, s, want)
			}
		}
		if r.Exec.Succeeded != 5 || r.Exec.P99MS != 100 || r.Stream.Succeeded != 2 || r.StreamBytes != 1<<20 {
			t.Errorf("exec %+v, stream %+v", r.Exec, r.Stream)
		}
		if len(r.Leaked) != 0 || r.Unclaimed != 0 || r.Failure(1) != "" {
			t.Errorf("leaked %v, unclaimed %d, failure %q", r.Leaked, r.Unclaimed, r.Failure(1))
		}
		if tg.made != 32 || tg.most != 10 {
			t.Errorf("%d made, at most %d alive", tg.made, tg.most)
		}
	})
}

// TestQuantilesAreUntrimmed: the slowest one is told.
func TestQuantilesAreUntrimmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tg := newTarget()
		var n int
		tg.fails = func(int) bool { return false }
		slow := &slowing{target: tg, delay: func() time.Duration { n++; return time.Duration(n) * time.Second }}
		p := plan(load.Sequential)
		p.Count = 20
		r, err := (&load.Runner{Target: slow, Plan: p}).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s := r.TTI[0]
		if s.MinMS != 2100 || s.P50MS != 11100 || s.P95MS != 20100 || s.P99MS != 21100 || s.MaxMS != 21100 {
			t.Errorf("%+v", s)
		}
	})
}

type slowing struct {
	*target
	delay func() time.Duration
}

func (s *slowing) Create(ctx context.Context) (string, error) {
	if err := wait(ctx, s.delay()); err != nil {
		return "", err
	}
	return s.target.Create(ctx)
}

func TestFailuresCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tg := newTarget()
		tg.fails = func(i int) bool { return i < 4 }
		tg.fakes = func(i int) bool { return i < 3 }
		tg.sticks = func(i int) bool { return i == 2 || i == 7 }
		r, err := (&load.Runner{Target: tg, Plan: plan(load.Burst)}).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s := r.TTI[0]; s.Succeeded != 6 || s.SuccessRate != .6 {
			t.Errorf("%+v", s)
		}
		if r.Unclaimed != 3 || !slices.Equal(r.Leaked, []string{"2", "7"}) {
			t.Errorf("unclaimed %d, leaked %v", r.Unclaimed, r.Leaked)
		}
		if got, want := r.Failure(.5), "2 sandboxes are left: 2, 7"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if got := r.Failure(.9); !strings.Contains(got, "burst: 6 of 10 succeeded: want at least 90 %") {
			t.Error(got)
		}
		var b strings.Builder
		if err := r.WriteMarkdown(&b); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"| burst | 6 of 10 | 1100 ms |", "Left at the end, by listing: 2.", `| burst | 4 | no room \| at all |`} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%q is missing in %s", want, b.String())
			}
		}
	})
}

func TestConcurrencyIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tg := newTarget()
		p := plan(load.Burst, load.Staggered)
		p.Concurrency, p.Stagger = 3, time.Millisecond
		r, err := (&load.Runner{Target: tg, Plan: p}).Run(t.Context())
		if err != nil || tg.most != 3 || r.TTI[0].Succeeded != 10 {
			t.Errorf("at most %d alive, %v", tg.most, err)
		}
	})
}

// TestLimit: what there was no time for has failed, and all that was made is gone.
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tg := newTarget()
		p := plan(load.Sequential, load.Exec)
		p.Limit = 3500 * time.Millisecond
		r, err := (&load.Runner{Target: tg, Plan: p}).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s := r.TTI[0]; s.Succeeded != 3 || len(s.Rounds) != 10 || r.Exec.Succeeded != 0 || len(r.Exec.Rounds) != 5 {
			t.Errorf("%+v, %+v", s, r.Exec)
		}
		if len(r.Leaked) != 0 || len(tg.live) != 0 {
			t.Errorf("left: %v", tg.live)
		}
	})
}

// TestInterrupt: an interrupted run removes what it made, also what it was never
// told of.
func TestInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tg := newTarget()
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := errors.New("interrupted")
		time.AfterFunc(1500*time.Millisecond, func() { cancel(stop) })
		r, err := (&load.Runner{Target: tg, Plan: plan(load.Modes...)}).Run(ctx)
		if !errors.Is(err, stop) || r == nil {
			t.Fatalf("%v", err)
		}
		if len(tg.live) != 0 || tg.made != 2 || r.Unclaimed != 1 {
			t.Errorf("%d made, left: %v, unclaimed %d", tg.made, tg.live, r.Unclaimed)
		}
	})
}

func TestCheck(t *testing.T) {
	for want, spoil := range map[string]func(*load.Plan){
		`mode is "x": want one of`:        func(p *load.Plan) { p.Modes = []load.Mode{"x"} },
		"count is 0: want 1 to 10000":     func(p *load.Plan) { p.Count = 0 },
		"concurrency is 10001: want 1":    func(p *load.Plan) { p.Concurrency = 10001 },
		"execs is -1":                     func(p *load.Plan) { p.Execs = -1 },
		"stream size is 1: want 32768 to": func(p *load.Plan) { p.StreamBytes = 1 },
	} {
		p := plan(load.Burst)
		spoil(&p)
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
