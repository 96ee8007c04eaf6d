package runner

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// machine is a Host: a runner on this machine, as a sandbox would have one, whose
// vendor keeps all that it prints.
type machine struct {
	cmd *exec.Cmd
	// left is closed when the runner has left.
	left chan struct{}

	mu      sync.Mutex
	changed *sync.Cond
	log     []byte
	whole   bool
}

// record reads what the runner prints, whoever else does.
func (m *machine) record(from io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		m.mu.Lock()
		m.log, m.whole = append(m.log, buf[:n]...), err != nil
		m.changed.Broadcast()
		m.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (m *machine) Open(context.Context) (Stream, error) { return &playback{m: m}, nil }

// playback is a Stream of a record.
type playback struct {
	m      *machine
	at     int
	closed bool
}

func (p *playback) Next() (bool, string, error) {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	for len(p.m.log) == p.at && !p.m.whole && !p.closed {
		p.m.changed.Wait()
	}
	switch {
	case p.closed:
		return false, "", net.ErrClosed
	case len(p.m.log) == p.at:
		return false, "", io.EOF
	}
	text := string(p.m.log[p.at:])
	p.at = len(p.m.log)
	return false, text, nil
}

func (p *playback) Close() {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	p.closed = true
	p.m.changed.Broadcast()
}

func (m *machine) WriteFile(_ context.Context, name string, content []byte) error {
	return os.WriteFile(name, content, 0o600)
}

func (m *machine) Signal(_ context.Context, group int64, signal string) (bool, error) {
	number := map[string]syscall.Signal{"KILL": syscall.SIGKILL, "TERM": syscall.SIGTERM}[signal]
	if err := syscall.Kill(-int(group), number); !errors.Is(err, syscall.ESRCH) {
		return err == nil, err
	}
	return false, nil
}

func (m *machine) End(context.Context) error { return m.cmd.Process.Signal(syscall.SIGTERM) }

func (m *machine) Free(ctx context.Context) error {
	select {
	case <-m.left:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *machine) Gone(context.Context) bool { return false }

// here returns a pool, and starts commands on this machine.
func here(t *testing.T) (*Pool, Starter) {
	t.Helper()
	if _, err := exec.LookPath("perl"); err != nil {
		t.Skip("there is no perl on this machine, which the runner is written for")
	}
	t.Cleanup(func() { goleak.VerifyNone(t) }) // after all that follows
	pool := NewPool(slog.New(slog.DiscardHandler))
	t.Cleanup(pool.Close)
	return pool, func(ctx context.Context, _ *providerv1.SandboxRef, execID string, spec *providerv1.ExecSpec) (*Command, error) {
		from, to, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		args, env := Args(execID, spec.GetWorkdir(), spec)
		m := &machine{cmd: exec.Command("/bin/sh", args...), left: make(chan struct{})}
		m.changed = sync.NewCond(&m.mu)
		m.cmd.Env, m.cmd.Stdout = append(pairs(env), "PATH=/usr/local/bin:/usr/bin:/bin"), to
		err = m.cmd.Start()
		_ = to.Close() // it is the runner's
		if err != nil {
			_ = from.Close()
			return nil, err
		}
		go func() {
			defer close(m.left)
			m.record(from)
			_ = from.Close()
			_ = m.cmd.Wait() // what it printed says how it ended
		}()
		t.Cleanup(func() {
			pool.Close()             // nothing is written after it
			_ = m.cmd.Process.Kill() // most have left
			<-m.left
			names, _ := filepath.Glob(ackFile(execID) + "*")
			for _, name := range names {
				_ = os.Remove(name)
			}
		})
		return pool.Start(ctx, Order{Host: m, First: &playback{m: m}, ExecID: execID, Workdir: spec.GetWorkdir(), Stdin: spec.GetStdin(), Asked: time.Now()})
	}
}
