package runsc_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
)

// counter counts with a live heap, a file on the overlay and an open file, so that losing any of them shows.
const counter = `
exec 5>>/log; echo overlay > /tmp/state
python3 -uc '
import os, time
heap = bytearray(os.urandom(64 << 20))
i = 0
while True:
    print(i); os.write(5, b"%d\n" % i); i += 1 + 0 * heap[i]; time.sleep(0.005)
'`

// next reads lines of the counter until it has seen n, and fails on a gap.
func next(r *bufio.Reader, last, n int) (int, error) {
	for range n {
		line, err := r.ReadString('\n')
		if err != nil {
			return last, fmt.Errorf("after %d: %w", last, err)
		}
		i, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil || i != last+1 {
			return last, fmt.Errorf("counted %q after %d", line, last)
		}
		last = i
	}
	return last, nil
}

// saveScenario: args are the checkpoint, and whether the guest goes on.
func saveScenario(ctx context.Context, e *env) error {
	image, keep := e.args[0], e.args[1] == "keep"
	sb, err := e.create(ctx)
	if err != nil {
		return err
	}
	// Something goes on with the streams of an exec that was released, and something could not start.
	if err := expectLingering(ctx, sb); err != nil {
		return err
	}
	// The counter gets streams that the guest had open before, and during the checkpoint there are such for the next command.
	if err := expect(ctx, sb, "echo first", "first"); err != nil {
		return err
	}
	if !runsc.Prepared(sb) {
		return errors.New("no streams were prepared")
	}
	ex, err := sb.Start(ctx, runsc.Command{ID: "counter", Argv: []string{"sh", "-c", counter}, Stdin: true})
	if err != nil {
		return err
	}
	r := bufio.NewReader(ex.Stdout)
	last, err := next(r, -1, 20)
	if err != nil {
		return err
	}
	if !runsc.Prepared(sb) {
		return errors.New("no streams were prepared again")
	}
	began := time.Now()
	if err := sb.Checkpoint(ctx, image, keep, nil); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "checkpoint %v\n", time.Since(began).Round(time.Millisecond))
	if keep {
		if _, err := next(r, last, 100); err != nil {
			return fmt.Errorf("the original: %w", err)
		}
		return sb.Close(ctx)
	}
	<-sb.Done()
	// Everything written before the checkpoint is still there, to the last byte.
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			break
		}
		last, _ = strconv.Atoi(strings.TrimSpace(line))
	}
	if _, err := ex.Wait(ctx); !errors.Is(err, runsc.ErrEnded) {
		return fmt.Errorf("result of a saved exec: %w", err)
	}
	return os.WriteFile(image+"/last", []byte(strconv.Itoa(last)), 0o600)
}

// expectLingering leaves a process behind that has all its exec's streams open.
func expectLingering(ctx context.Context, sb *runsc.Sandbox) error {
	ex, err := sb.Start(ctx, runsc.Command{Argv: []string{"sh", "-c", "exec 3<&0; sleep 1000 <&3 & echo up"}, Stdin: true})
	if err != nil {
		return err
	}
	defer ex.Release()
	if _, err := io.ReadFull(ex.Stdout, make([]byte, 3)); err != nil {
		return err
	}
	if _, err := ex.Wait(ctx); err != nil {
		return err
	}
	if !runsc.Prepared(sb) {
		return errors.New("no streams were prepared")
	}
	if _, err := sb.Start(ctx, runsc.Command{Argv: []string{"no-such-command"}}); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("missing command: %w", err)
	}
	return nil
}

// resumeScenario goes on with the counter in another shim. args are the checkpoint and whether "last" is known.
func resumeScenario(ctx context.Context, e *env) error {
	image := e.args[0]
	began := time.Now()
	sb, err := e.restore(ctx, image)
	if err != nil {
		return err
	}
	ex, err := sb.Exec("counter")
	if err != nil {
		return err
	}
	offset := ex.Stdout.Offset()
	r := bufio.NewReader(ex.Stdout)
	line, err := r.ReadString('\n')
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "restore to first line %v, offset %d\n", time.Since(began).Round(time.Millisecond), offset)
	first, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return err
	}
	if b, err := os.ReadFile(image + "/last"); err == nil && string(b) != strconv.Itoa(first-1) {
		return fmt.Errorf("went on with %d after %s", first, b)
	}
	if want := digits(first); offset != want {
		return fmt.Errorf("offset %d, want %d before %d", offset, want, first)
	}
	last, err := next(r, first, 50)
	if err != nil {
		return err
	}
	// Nobody reads the stream now, but the log is on the overlay.
	if err := expect(ctx, sb, fmt.Sprintf("cat /tmp/state; head -n %d /log | tail -n 1", last+1), fmt.Sprintf("overlay\n%d", last)); err != nil {
		return err
	}
	if err := sb.Loaded(); err != nil {
		return err
	}
	// Of what was prepared in the saved guest nothing is left: there are the counter's streams, those for the next command, and those that
	// sleep still has although its exec is gone.
	prepared := runsc.Prepared(sb)
	streams, err := filepath.Glob(filepath.Join(e.dir, e.cfg.ID, "io", "*"))
	if err != nil || len(streams) != 8 || !prepared {
		return fmt.Errorf("streams after the restore: %q, %w; want eight", streams, err)
	}
	return errors.Join(expect(ctx, sb, "grep -l sleep /proc/[0-9]*/comm | wc -l", "1"), sb.Close(ctx))
}

// digits is the length of the counter's output before it prints n.
func digits(n int) int64 {
	total := 0
	for i := range n {
		total += len(strconv.Itoa(i)) + 1
	}
	return int64(total)
}

// forkScenario checkpoints a live guest twice in one shim and compares; see TestFork for the clones.
func forkScenario(ctx context.Context, e *env) error {
	sb, err := e.create(ctx)
	if err != nil {
		return err
	}
	if err := expect(ctx, sb, "echo 1 > /x; ls /nope 2>/dev/null; sleep 0.01 & wait; echo ok", "ok"); err != nil {
		return err
	}
	for i := range 3 {
		if err := sb.Checkpoint(ctx, fmt.Sprintf("%s-%d", e.args[0], i), true, nil); err != nil {
			return err
		}
		if err := expect(ctx, sb, "cat /x", "1"); err != nil {
			return err
		}
	}
	return sb.Close(ctx)
}

func TestPauseResume(t *testing.T) {
	work := workDir(t)
	for name, uid := range who(t) {
		t.Run(name, func(t *testing.T) {
			image := filepath.Join(work, "image-"+name)
			t.Log(inShim(t, work, uid, "save", image, "end"))
			t.Log(inShim(t, work, uid, "resume", image))
		})
	}
}

func TestCheckpointAgainAndAgain(t *testing.T) {
	work := workDir(t)
	for name, uid := range who(t) {
		t.Run(name, func(t *testing.T) { inShim(t, work, uid, "fork", filepath.Join(work, "again-"+name)) })
	}
}

func TestFork(t *testing.T) {
	work := workDir(t)
	for name, uid := range who(t) {
		t.Run(name, func(t *testing.T) {
			image := filepath.Join(work, "fork-"+name)
			t.Log(inShim(t, work, uid, "save", image, "keep"))
			began := time.Now()
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() { t.Log(strings.TrimSpace(inShim(t, work, uid, "resume", image))) })
			}
			wg.Wait()
			t.Log("8 clones, each checked over 50 lines:", time.Since(began))
		})
	}
}
