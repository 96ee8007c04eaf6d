package runsc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
)

// memoryScenario has processes take twice the limit. args are the image, the MiB of one step and the number of processes.
func memoryScenario(ctx context.Context, e *env) error {
	if err := e.useImage(); err != nil {
		return err
	}
	const limit = 256 << 20
	e.cfg.Limits.MemoryBytes = limit
	sb, err := runsc.Create(ctx, e.cfg)
	if err != nil {
		return err
	}
	neighbour, err := sb.Start(ctx, tool("count"))
	if err != nil {
		return err
	}
	lines := make(chan int64, 1)
	go func() { n, _ := io.Copy(io.Discard, struct{ io.Reader }{neighbour.Stdout}); lines <- n }()
	began := time.Now()
	cmd := tool("eat", "512", e.args[1])
	if e.args[2] != "1" {
		cmd.Argv = append(cmd.Argv, e.args[2])
	}
	out, exit, err := run(ctx, sb, cmd)
	if errors.Is(err, runsc.ErrOutOfMemory) {
		fmt.Fprintf(e.out, "the whole sandbox was killed after %v: %v\n", time.Since(began), err)
		return sb.Close(ctx)
	}
	if err != nil {
		return err
	}
	if e.args[2] == "1" && (!exit.OOM || exit.Signal != syscall.SIGKILL) {
		return fmt.Errorf("eater: %q %+v", out, exit)
	}
	u, err := sb.Usage(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "killed after %v, at most %d MiB of %d\n", time.Since(began), u.MemoryPeak>>20, limit>>20)
	if u.MemoryPeak < limit/2 || u.MemoryPeak > limit+limit/4 {
		return fmt.Errorf("peak of %d MiB with a limit of %d MiB", u.MemoryPeak>>20, limit>>20)
	}
	select {
	case <-neighbour.Done():
		return errors.New("the neighbour was killed")
	default:
	}
	// The sandbox still has its memory.
	if err := says(ctx, sb, "77 77 78", runsc.Command{Argv: []string{"tool", "id"}, User: "app"}); err != nil {
		return err
	}
	if err := neighbour.Signal(ctx, syscall.SIGKILL); err != nil {
		return err
	}
	if n := <-lines; n == 0 {
		return errors.New("the neighbour said nothing")
	}
	return sb.Close(ctx)
}

func TestMemoryLimit(t *testing.T) {
	work := workDir(t)
	for name, uid := range who(t) {
		rootfs := makeImage(t, work, uid)
		for _, c := range []struct{ name, step, processes string }{{"in small steps", "1", "1"}, {"at once", "512", "1"}, {"by four", "8", "4"}} {
			t.Run(name+"/"+c.name, func(t *testing.T) { t.Log(inShim(t, work, uid, "memory", rootfs, c.step, c.processes)) })
		}
	}
}
