package mutant

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// askTime is how long a mutant waits for an answer of the provider that it is.
const askTime = 10 * time.Second

// commands is the reference driver with a bug in how it starts commands.
type commands struct {
	*fake.Driver
	// before may change what is started; it gets a copy.
	before func(ref *providerv1.SandboxRef, id string, spec *providerv1.ExecSpec) error
	// after may wrap what was started.
	after func(c started) sdk.Process
	// otherwise is what becomes of a command that was refused.
	otherwise func(spec *providerv1.ExecSpec, err error) error
}

// started is a command that a mutant wraps.
type started struct {
	sdk.Process
	driver *fake.Driver
	ref    *providerv1.SandboxRef
	id     string
	spec   *providerv1.ExecSpec
}

// StartProcess implements sdk.Driver.
func (d *commands) StartProcess(ctx context.Context, ref *providerv1.SandboxRef, id string, spec *providerv1.ExecSpec) (sdk.Process, error) {
	spec = clone(spec)
	if d.before != nil {
		if err := d.before(ref, id, spec); err != nil {
			return nil, err
		}
	}
	p, err := d.Driver.StartProcess(ctx, ref, id, spec)
	if err != nil && d.otherwise != nil {
		if err = d.otherwise(spec, err); err == nil {
			p, err = d.Driver.StartProcess(ctx, ref, id, spec)
		}
	}
	if err != nil || d.after == nil {
		return p, err
	}
	return d.after(started{Process: p, driver: d.Driver, ref: ref, id: id, spec: spec}), nil
}

// command makes a driver mutant that wraps every command.
func command(wrap func(started) sdk.Process) func(*fake.Driver) sdk.Driver {
	return func(d *fake.Driver) sdk.Driver { return &commands{Driver: d, after: wrap} }
}

// spoiled is a command of which some parts are replaced; nil: not.
type spoiled struct {
	sdk.Process
	stdin          io.WriteCloser
	stdout, stderr io.Reader
	signal         func(context.Context, providerv1.ExecSignal) error
}

// Stdin implements sdk.Process.
func (p *spoiled) Stdin() io.WriteCloser {
	if p.stdin != nil {
		return p.stdin
	}
	return p.Process.Stdin()
}

// Stdout implements sdk.Process.
func (p *spoiled) Stdout() io.Reader {
	if p.stdout != nil {
		return p.stdout
	}
	return p.Process.Stdout()
}

// Stderr implements sdk.Process.
func (p *spoiled) Stderr() io.Reader {
	if p.stderr != nil {
		return p.stderr
	}
	return p.Process.Stderr()
}

// Signal implements sdk.Process.
func (p *spoiled) Signal(ctx context.Context, s providerv1.ExecSignal) error {
	if p.signal != nil {
		return p.signal(ctx, s)
	}
	return p.Process.Signal(ctx, s)
}

// editedReader changes each piece that is read. change may return the slice it
// got, shortened.
type editedReader struct {
	io.Reader
	change func([]byte) []byte
}

// Read implements io.Reader. It returns no bytes and no error only if everything
// in a piece was cut out.
func (r editedReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	return copy(b, r.change(b[:n])), err
}

// editedWriter changes each piece that is written.
type editedWriter struct {
	io.WriteCloser
	change func([]byte) []byte
}

// Write implements io.Writer.
func (w editedWriter) Write(b []byte) (int, error) {
	if _, err := w.WriteCloser.Write(w.change(slices.Clone(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// writing makes a driver mutant that changes what commands get as input, where
// which says so.
func writing(which func(*providerv1.ExecSpec) bool, change func([]byte) []byte) func(*fake.Driver) sdk.Driver {
	return command(func(c started) sdk.Process {
		if !c.spec.GetStdin() || !which(c.spec) {
			return c.Process
		}
		return &spoiled{Process: c.Process, stdin: editedWriter{c.Stdin(), change}}
	})
}

func always(*providerv1.ExecSpec) bool { return true }

// hoard reads a command's output into memory as fast as it comes, whether or not
// anybody wants it.
type hoard struct {
	mu      sync.Mutex
	changed *sync.Cond
	data    []byte
	err     error
}

// newHoard starts to read; the goroutine ends with r, at the latest when its
// sandbox is deleted, or when it has more than any case waits for.
func newHoard(r io.Reader) *hoard {
	const enough = 128 << 20
	h := &hoard{}
	h.changed = sync.NewCond(&h.mu)
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := r.Read(buf)
			h.mu.Lock()
			h.data, h.err = append(h.data, buf[:n]...), err
			full := len(h.data) >= enough
			h.changed.Broadcast()
			h.mu.Unlock()
			if err != nil || full {
				return
			}
		}
	}()
	return h
}

// Read implements io.Reader.
func (h *hoard) Read(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.data) == 0 && h.err == nil {
		h.changed.Wait()
	}
	n := copy(b, h.data)
	h.data = h.data[n:]
	if n == 0 {
		return 0, h.err
	}
	return n, nil
}

// lead makes commands note the process id of their lead process.
func lead(id string, spec *providerv1.ExecSpec) {
	spec.Argv = append([]string{"sh", "-c", "echo $$ > " + leadFile(id) + `; exec "$0" "$@"`}, spec.GetArgv()...)
}

func leadFile(id string) string { return "/tmp/.lead-" + id }

// killLead signals the lead process alone.
func killLead(ctx context.Context, c started, name string) error {
	p, err := c.driver.StartProcess(ctx, c.ref, c.id+"-kill", &providerv1.ExecSpec{
		Argv: []string{"sh", "-c", "kill -s " + name + " $(cat " + leadFile(c.id) + ")"},
	})
	if err != nil {
		return err
	}
	_, err = p.Wait(ctx)
	return errors.Join(err, p.Close())
}

// leads makes commands note their lead process, where which says so.
func leads(which func(*providerv1.ExecSpec) bool) func(*providerv1.SandboxRef, string, *providerv1.ExecSpec) error {
	return func(_ *providerv1.SandboxRef, id string, spec *providerv1.ExecSpec) error {
		if which(spec) {
			lead(id, spec)
		}
		return nil
	}
}

// leadsOnly makes SIGKILL reach the lead process alone.
func leadsOnly(which func(*providerv1.ExecSpec) bool) func(started) sdk.Process {
	return func(c started) sdk.Process {
		if !which(c.spec) {
			return c.Process
		}
		return &spoiled{Process: c.Process, signal: func(ctx context.Context, s providerv1.ExecSignal) error {
			if s != providerv1.ExecSignal_EXEC_SIGNAL_KILL {
				return c.Signal(ctx, s)
			}
			return killLead(ctx, c, "KILL")
		}}
	}
}
