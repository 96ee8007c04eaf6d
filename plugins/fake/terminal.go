package fake

import (
	"bytes"
	"io"
	"sync"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Control characters that a terminal handles itself.
const (
	ctrlC     = 3
	ctrlD     = 4
	backspace = 8
	ctrlU     = 21
	ctrlZ     = 26
	ctrlSlash = 28
	erase     = 127
)

// terminal is a terminal's line discipline between a keyboard and the processes
// of a command. Output goes through a pipe.
type terminal struct {
	cmd *command
	out *pipe

	mu         sync.Mutex
	changed    bell
	modes      system.Modes
	rows, cols uint32
	// editing is the line that is being typed; ready is what can be read, each
	// part by one read at most. An empty part is the end of input.
	editing []byte
	ready   [][]byte
	held    int
	// closed says that no key comes any more, hungUp that nobody is there.
	closed, hungUp bool
}

func newTerminal(cmd *command, size *providerv1.Terminal) *terminal {
	return &terminal{cmd: cmd, out: newPipe(1), modes: system.Cooked, rows: size.GetRows(), cols: size.GetCols(), closed: !cmd.spec.GetStdin()}
}

// Size implements system.Terminal.
func (t *terminal) Size() (rows, cols uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rows, t.cols
}

// SetSize implements system.Terminal.
func (t *terminal) SetSize(rows, cols uint32) {
	t.mu.Lock()
	same := t.rows == rows && t.cols == cols
	t.rows, t.cols = rows, cols
	t.mu.Unlock()
	if !same {
		t.cmd.signal(system.SIGWINCH)
	}
}

// Modes implements system.Terminal.
func (t *terminal) Modes() system.Modes {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.modes
}

// SetModes implements system.Terminal.
func (t *terminal) SetModes(m system.Modes) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.modes = m
	if !m.Canonical && len(t.editing) > 0 {
		t.handOver(t.editing)
		t.editing = nil
	}
}

// handOver makes a part readable. The caller holds mu.
func (t *terminal) handOver(part []byte) {
	t.ready = append(t.ready, bytes.Clone(part))
	t.held += len(part)
	t.changed.ring()
}

// hangUp ends the terminal for whoever still holds it.
func (t *terminal) hangUp() {
	t.mu.Lock()
	first := !t.hungUp
	t.hungUp, t.closed = true, true
	t.changed.ring()
	t.mu.Unlock()
	if first {
		t.out.adds(0, -1)
	}
}

// keyboard is the input side, in the hands of the plugin.
type keyboard struct{ t *terminal }

// Write takes what a person types.
func (k keyboard) Write(b []byte) (int, error) {
	for i, c := range b {
		if err := k.t.key(c); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// Close ends input.
func (k keyboard) Close() error {
	k.t.mu.Lock()
	defer k.t.mu.Unlock()
	if len(k.t.editing) > 0 {
		k.t.handOver(k.t.editing)
		k.t.editing = nil
	}
	k.t.closed = true
	k.t.changed.ring()
	return nil
}

// key handles one character. It waits while nobody reads.
func (t *terminal) key(c byte) error {
	t.mu.Lock()
	for t.held+len(t.editing) >= pipeSize && !t.closed && !t.signals(c) {
		wake := t.changed.wait()
		t.mu.Unlock()
		<-wake
		t.mu.Lock()
	}
	if t.closed {
		t.mu.Unlock()
		return io.ErrClosedPipe
	}
	if t.modes.CRToNL && c == '\r' {
		c = '\n'
	}
	echo := []byte{c}
	signal := system.Signal(0)
	switch {
	case t.signals(c):
		signal = map[byte]system.Signal{ctrlC: system.SIGINT, ctrlSlash: system.SIGQUIT, ctrlZ: system.SIGTSTP}[c]
		echo = []byte{'^', c + '@'}
		t.editing = nil
	case !t.modes.Canonical:
		t.handOver(echo)
	default:
		echo = t.edit(c)
	}
	shown := t.modes.Echo
	t.mu.Unlock()
	if shown {
		t.show(echo)
	}
	if signal != 0 {
		t.cmd.signal(signal)
	}
	return nil
}

func (t *terminal) signals(c byte) bool {
	return t.modes.Signals && (c == ctrlC || c == ctrlSlash || c == ctrlZ)
}

// edit handles one character of a line and returns what to echo. The caller
// holds mu.
func (t *terminal) edit(c byte) []byte {
	switch c {
	case ctrlD:
		t.handOver(t.editing)
		t.editing = nil
		return nil
	case erase, backspace:
		if len(t.editing) == 0 {
			return nil
		}
		t.editing = t.editing[:len(t.editing)-1]
		return []byte("\b \b")
	case ctrlU:
		gone := len(t.editing)
		t.editing = nil
		return bytes.Repeat([]byte("\b \b"), gone)
	}
	t.editing = append(t.editing, c)
	if c == '\n' {
		t.handOver(t.editing)
		t.editing = nil
	}
	return []byte{c}
}

// show echoes. It waits while the output is full, as a slow terminal does.
func (t *terminal) show(b []byte) {
	for b = t.cooked(b); len(b) > 0; {
		n, wake, err := t.out.tryWrite(b)
		if err != nil {
			return // nobody looks
		}
		b = b[n:]
		if wake == nil {
			continue
		}
		select {
		case <-wake:
		case <-t.cmd.stdout.closed:
			return
		case <-t.cmd.lead.done:
			return
		}
	}
}

// cooked is what a terminal makes of output.
func (t *terminal) cooked(b []byte) []byte {
	if !t.Modes().NLToCRNL {
		return b
	}
	return bytes.ReplaceAll(b, []byte{'\n'}, []byte{'\r', '\n'})
}

// tryRead is pipe.tryRead for the terminal.
func (t *terminal) tryRead(b []byte) (n int, wake <-chan struct{}, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.ready) == 0 {
		if t.closed {
			return 0, nil, io.EOF
		}
		return 0, t.changed.wait(), nil
	}
	defer t.changed.ring()
	if len(t.ready[0]) == 0 {
		t.ready = t.ready[1:]
		return 0, nil, io.EOF
	}
	for len(t.ready) > 0 && n < len(b) && len(t.ready[0]) > 0 {
		part := copy(b[n:], t.ready[0])
		n += part
		if t.ready[0] = t.ready[0][part:]; len(t.ready[0]) == 0 {
			t.ready = t.ready[1:]
		}
		if t.modes.Canonical {
			break
		}
	}
	t.held -= n
	return n, nil, nil
}

// terminalFile is an open terminal of a process.
type terminalFile struct{ *terminal }

func (f *terminalFile) read(p *process, b []byte) (int, error) {
	return p.reading(func() (int, <-chan struct{}, error) { return f.tryRead(b) })
}

func (f *terminalFile) write(p *process, b []byte) (int, error) {
	f.mu.Lock()
	gone := f.hungUp
	f.mu.Unlock()
	if gone {
		return 0, syscall.EIO
	}
	if n, err := p.writing(f.out, f.cooked(b)); err != nil {
		return min(n, len(b)), err
	}
	return len(b), nil
}

func (f *terminalFile) info(*process) system.Info {
	return system.Info{Kind: system.Device, Mode: 0o620, ID: f.terminal}
}

func (f *terminalFile) release(*process) {}
