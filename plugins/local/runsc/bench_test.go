package runsc_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
)

// benchScenario measures in one sandbox; args are what, and how often. Its output is lines of a unit and a value.
func benchScenario(ctx context.Context, e *env) error {
	n, err := strconv.Atoi(e.args[1])
	if err != nil {
		return err
	}
	began := time.Now()
	e.cfg.Limits = runsc.Limits{Pids: 1024, MemoryBytes: 1 << 30}
	sb, err := e.create(ctx)
	if err != nil {
		return err
	}
	created := time.Since(began)
	switch e.args[0] {
	case "create":
		err = expect(ctx, sb, "echo hi", "hi")
		fmt.Fprintf(e.out, "create-ms %v\nfirst-command-ms %v\n", ms(created), ms(time.Since(began)))
	case "exec":
		err = errors.Join(
			percentiles(e.out, "agent", n, func() error {
				_, _, err := run(ctx, sb, runsc.Command{Argv: []string{"/bin/echo", "hi"}})
				return err
			}),
			percentiles(e.out, "runtime", n, func() error { return runtimeEcho(sb) }))
	case "stdout":
		err = benchStdout(ctx, e.out, sb, n)
	}
	return errors.Join(err, sb.Close(ctx))
}

func ms(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 2, 64)
}

func percentiles(out io.Writer, name string, n int, do func() error) error {
	took := make([]time.Duration, max(n, 10))
	for i := range took {
		began := time.Now()
		if err := do(); err != nil {
			return err
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	fmt.Fprintf(out, "%s-p50-ms %v\n%s-best-ms %v\n", name, ms(took[len(took)/2]), name, ms(took[0]))
	return nil
}

func runtimeEcho(sb *runsc.Sandbox) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := errors.Join(runsc.RuntimeExec(sb, w, "/bin/echo", "hi"), w.Close()); err != nil {
		return err
	}
	got, err := io.ReadAll(r)
	if err != nil || string(got) != "hi\n" {
		return fmt.Errorf("runtime's exec: %q %w", got, err)
	}
	return nil
}

func benchStdout(ctx context.Context, out io.Writer, sb *runsc.Sandbox, n int) error {
	ex, err := sb.Start(ctx, runsc.Command{Argv: []string{"dd", "if=/dev/zero", "bs=64k", "count=" + strconv.Itoa(1024*max(n, 4)), "status=none"}})
	if err != nil {
		return err
	}
	began := time.Now()
	got, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{ex.Stdout}, make([]byte, 256<<10))
	fmt.Fprintf(out, "MiB/s %.0f\n", float64(got)/(1<<20)/time.Since(began).Seconds())
	return err
}

// bench runs a scenario as root, or whoever this is, and reports its lines.
func bench(b *testing.B, times int, args ...string) {
	b.Helper()
	work := workDir(b)
	sums := map[string]float64{}
	b.ResetTimer()
	for range times {
		began := time.Now()
		out := inShim(b, work, os.Geteuid(), "bench", append(slices.Clone(args), strconv.Itoa(b.N))...)
		sums["shim-life-ms"] += float64(time.Since(began).Microseconds()) / 1000
		for s := bufio.NewScanner(strings.NewReader(out)); s.Scan(); {
			unit, value, _ := strings.Cut(s.Text(), " ")
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				b.Fatal(out)
			}
			sums[unit] += v
		}
	}
	for unit, sum := range sums {
		b.ReportMetric(sum/float64(times), unit)
	}
}

func BenchmarkCreate(b *testing.B) { bench(b, b.N, "create") }
func BenchmarkExec(b *testing.B)   { bench(b, 1, "exec") }
func BenchmarkStdout(b *testing.B) { bench(b, 1, "stdout") }

// BenchmarkPauseResume64MiB saves a guest with 64 MiB of random heap and goes on with it in another shim, both with their processes.
func BenchmarkPauseResume64MiB(b *testing.B) {
	work := workDir(b)
	for i := range b.N {
		image := filepath.Join(work, fmt.Sprint("image-", i))
		b.StopTimer()
		saved := inShim(b, work, os.Geteuid(), "save", image, "end")
		b.StartTimer()
		report(b, "pause-ms", saved)
		report(b, "resume-to-output-ms", inShim(b, work, os.Geteuid(), "resume", image))
	}
}

// BenchmarkFork8 makes eight guests of one.
func BenchmarkFork8(b *testing.B) {
	work := workDir(b)
	for i := range b.N {
		image := filepath.Join(work, fmt.Sprint("image-", i))
		b.StopTimer()
		report(b, "checkpoint-ms", inShim(b, work, os.Geteuid(), "save", image, "keep"))
		b.StartTimer()
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { report(b, "clone-to-output-ms", inShim(b, work, os.Geteuid(), "resume", image)) })
		}
		all.Wait()
	}
}

// report takes the duration of a scenario's last line.
func report(b *testing.B, unit, out string) {
	b.Helper()
	for word := range strings.FieldsSeq(strings.ReplaceAll(out, ",", " ")) {
		if d, err := time.ParseDuration(word); err == nil {
			b.ReportMetric(float64(d.Microseconds())/1000, unit)
		}
	}
}
