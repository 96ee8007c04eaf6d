// Package agent is process 1 of every guest: it starts processes, collects their results and does file and network work in the
// guest's own view.
//
// Because commands are its children and not sessions of the sandbox runtime they survive a checkpoint: the runtime kills its own
// exec sessions on restore. Their standard streams are FIFOs which the runtime opens again by name on restore, so output goes on
// where it stopped, without a copy through the agent.
//
// FIFOs are used with blocking system calls, never through the Go network poller: a FIFO once known to an epoll instance can stay
// referenced by it after its close, and the runtime then refuses to save.
//
// The package imports the standard library and wire only, and owns process-wide state (waiting for any child), so Main is called
// once per process.
package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// Main serves requests until the control pipe ends, which happens only when the sandbox ends. It never returns.
func Main() {
	syscall.CloseOnExec(wire.RequestFD)
	syscall.CloseOnExec(wire.EventFD)
	a := &agent{
		out: rawFile(wire.EventFD), prepared: map[string]rawFile{}, null: -1, disk: -1, byID: map[string]*process{}, byPID: map[int]*process{}, commits: map[uint64]chan int64{},
	}
	a.spawning = sync.NewCond(&a.mu)
	syscall.Umask(0o022)
	calmSignals()
	go a.reap()
	if err := a.serve(rawFile(wire.RequestFD)); err != nil {
		a.send(wire.Event{Fatal: err.Error()})
	}
	// Process 1 must not end by itself: it would take every process with it while the host may still want their results.
	select {}
}

type agent struct {
	outMu sync.Mutex
	out   rawFile

	// prepared are streams that were opened before a request named them, and null is the null device; of the goroutine of serve.
	prepared map[string]rawFile
	null     rawFile

	// disk is the directory of the upper layers of a layered root, else negative.
	disk rawFile

	// mu is held over fork and registration, so that reap cannot see a child before its entry.
	mu       sync.Mutex
	spawned  int        // children so far
	spawning *sync.Cond // spawned grows
	byID     map[string]*process
	byPID    map[int]*process
	commits  map[uint64]chan int64 // of writes under way, each with room for one length
}

func (a *agent) serve(in rawFile) error {
	r := bufio.NewReaderSize(in, 64<<10)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		var req wire.Request
		if err := json.Unmarshal(line, &req); err != nil {
			return fmt.Errorf("decode request: %w", err)
		}
		a.forget(req.Forget)
		a.dispatch(&req)
	}
}

// dispatch answers quick requests at once, in order; those that can block run in a goroutine each.
func (a *agent) dispatch(req *wire.Request) {
	switch req.Op {
	case wire.OpSetup:
		a.answer(req, a.setup(req.Setup))
	case wire.OpHello:
		a.hello(req)
	case wire.OpStart:
		pid, err := a.start(req)
		if err != nil {
			a.drop(req.Stdout, req.Stderr)
		}
		a.send(wire.Event{ID: req.ID, PID: pid, Error: wireError(err)})
	case wire.OpSignal:
		a.answer(req, a.signal(req.ExecID, syscall.Signal(req.Signal)))
	case wire.OpResize:
		a.answer(req, a.resize(req.ExecID, req.Size))
	case wire.OpPrepare:
		a.answer(req, a.prepare(req.Prepare))
	case wire.OpName:
		a.answer(req, rename(req.Hostname))
	case wire.OpReclaim:
		a.answer(req, a.reclaim(req.Limit, req.Force))
	case wire.OpCommit:
		a.answer(req, a.commit(req.Commit, req.Length))
	case wire.OpWrite, wire.OpPatch:
		a.expectCommit(req.ID)
		go a.serveFile(req)
	default:
		go a.serveFile(req)
	}
}

func (a *agent) answer(req *wire.Request, err error) {
	a.send(wire.Event{ID: req.ID, Error: wireError(err)})
}

// send writes one event with one write(2). An event too large for an atomic write can only be so by a message or a name, which
// are cut.
func (a *agent) send(ev wire.Event) {
	b, err := json.Marshal(ev)
	if err == nil && len(b) >= wire.MaxEvent {
		if ev.Error != nil {
			ev.Error.Message = ev.Error.Message[:min(len(ev.Error.Message), 512)]
		}
		if ev.Info != nil {
			ev.Info.Name, ev.Info.Target = "", ""
		}
		b, err = json.Marshal(ev)
	}
	if err != nil {
		return
	}
	a.outMu.Lock()
	defer a.outMu.Unlock()
	_, _ = a.out.Write(append(b, '\n'))
}

func wireError(err error) *wire.Error {
	if err == nil {
		return nil
	}
	e := &wire.Error{Message: err.Error()}
	var refused *refusal
	if errors.As(err, &refused) {
		e.Part = refused.part
	}
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		e.Errno = int(errno)
	case errors.Is(err, os.ErrNotExist):
		e.Errno = int(syscall.ENOENT)
	case errors.Is(err, os.ErrExist):
		e.Errno = int(syscall.EEXIST)
	case errors.Is(err, os.ErrPermission):
		e.Errno = int(syscall.EACCES)
	}
	return e
}
