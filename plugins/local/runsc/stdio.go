package runsc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// outputs are the streams of a command that is yet to come. The guest has them open: to open two FIFOs takes it half a millisecond,
// which the next command need not wait for.
type outputs struct {
	stdout, stderr *Reader
}

func (o *outputs) close() {
	if o == nil {
		return
	}
	for _, r := range []*Reader{o.stdout, o.stderr} {
		if r != nil {
			_ = r.Close()
		}
	}
}

// openStreams makes the streams of a new exec. The returned files are to be closed once the guest has them open.
func (e *Exec) openStreams(stdin bool) (keep []*os.File, err error) {
	prefix := "x-" + e.ID
	if o := e.takeOutputs(); o != nil {
		e.Stdout, e.Stderr = o.stdout, o.stderr
		e.Stdout.enlarge()
		e.Stderr.enlarge()
	} else if keep, err = e.openOutputs(prefix+".1", prefix+".2", manifestExec{}); err != nil {
		return keep, err
	}
	if stdin {
		k, err := e.openStdin(prefix + ".0")
		return append(keep, k...), err
	}
	return keep, nil
}

// reopenStreams makes the streams of an exec of a checkpoint, with its names and offsets.
func (e *Exec) reopenStreams(from manifestExec) (keep []*os.File, err error) {
	if keep, err = e.openOutputs(from.StdoutName, from.StderrName, from); err != nil {
		return keep, err
	}
	if from.Stdin {
		k, err := e.openStdin("x-" + e.ID + ".0")
		return append(keep, k...), err
	}
	return keep, nil
}

func (e *Exec) openOutputs(stdout, stderr string, from manifestExec) (keep []*os.File, err error) {
	dir := e.sandbox.cfg.ioDir()
	var k *os.File
	if e.Stdout, k, err = newReader(dir, stdout, from.Stdout); err != nil {
		return nil, err
	}
	keep = append(keep, k)
	e.Stdout.enlarge()
	if e.tty {
		return keep, nil
	}
	if e.Stderr, k, err = newReader(dir, stderr, from.Stderr); err != nil {
		return keep, err
	}
	e.Stderr.enlarge()
	return append(keep, k), nil
}

func (e *Exec) openStdin(name string) (keep []*os.File, err error) {
	var k *os.File
	if e.Stdin, k, err = newWriter(e.sandbox.cfg.ioDir(), name); err != nil {
		return nil, err
	}
	return []*os.File{k}, nil
}

// takeOutputs returns what was prepared, or nil.
func (e *Exec) takeOutputs() *outputs {
	s := e.sandbox
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.tty {
		return nil
	}
	o := s.outputs
	s.outputs = nil
	return o
}

// prepareStreams has the outputs of the next command made, in a goroutine that ends before the sandbox is done.
func (s *Sandbox) prepareStreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.preparing || s.outputs != nil {
		return
	}
	s.preparing = true
	s.nextStream++
	prefix := "a-" + strconv.FormatInt(s.nextStream, 10)
	s.background.Go(func() {
		o, err := s.makeOutputs(prefix)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.preparing = false
		if err == nil {
			for _, name := range s.staleOutputs {
				_ = os.Remove(filepath.Join(s.cfg.ioDir(), name))
			}
			s.staleOutputs = nil
		}
		if err != nil || s.closed {
			o.close() // the next command makes its own
			return
		}
		s.outputs = o
	})
}

var errCheckpoint = errors.New("a checkpoint is under way")

func (s *Sandbox) makeOutputs(prefix string) (*outputs, error) {
	o := &outputs{}
	var keep [2]*os.File
	var err1, err2 error
	o.stdout, keep[0], err1 = newReader(s.cfg.ioDir(), prefix+".1", 0)
	o.stderr, keep[1], err2 = newReader(s.cfg.ioDir(), prefix+".2", 0)
	defer closeFiles(keep[:])
	if err := errors.Join(err1, err2); err != nil {
		return o, err
	}
	// A checkpoint that ends the sandbox waits for this goroutine.
	if !s.ctl.quiesce.TryRLock() {
		return o, errCheckpoint
	}
	defer s.ctl.quiesce.RUnlock()
	_, err := s.ctl.callLocked(context.Background(), &wire.Request{Op: wire.OpPrepare, Prepare: []string{prefix + ".1", prefix + ".2"}}, nil)
	return o, err
}
