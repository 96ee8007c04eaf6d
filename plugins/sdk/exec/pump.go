package exec

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"syscall"
	"time"
)

// errAbandoned marks output that nobody read before the exec was given up.
var errAbandoned = errors.New("the provider stopped before the output was read")

// pumpState is what a session remembers about one output pump.
type pumpState struct {
	// reading says that a Read is in progress.
	reading bool
	// parked says that the pump waits for the end of a freeze; interruptible, that
	// a freeze can stop its Read.
	parked        bool
	interruptible bool
	// drain cuts the stream when its drain time is over; left is what remains of
	// that time, which runs only while a Read waits.
	drain   *time.Timer
	started bool
	left    time.Duration
	waiting time.Time
}

func (p *pumpState) disarm() {
	if p.drain != nil {
		p.drain.Stop()
		p.drain = nil
	}
}

// pump moves one stream of the process into the log until it ends.
func (s *session) pump(i int, r io.Reader) {
	var err error
	if r != nil {
		err = s.copyOut(i, r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.st.logs[i].finish(err)
	s.changed()
}

func (s *session) copyOut(i int, r io.Reader) error {
	for {
		buf := s.reserve(i)
		if buf == nil {
			return nil
		}
		n, err := guardedRead(r, buf)
		switch {
		case !s.commit(i, n, err):
			return nil
		case err == nil || errors.Is(err, os.ErrDeadlineExceeded):
		case errors.Is(err, io.EOF) || s.hungUp(err):
			return nil
		default:
			s.log.Warn("reading output failed", "stream", streamNames[i], "error", err)
			return err
		}
	}
}

// hungUp reports the error by which a terminal says that its last user closed
// it, and the one that Close causes.
func (s *session) hungUp(err error) bool {
	if errors.Is(err, syscall.EIO) && s.st.spec.GetTerminal() != nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Is(err, os.ErrClosed) && s.st.exit != nil
}

// reserve waits until stream i has room, and returns where to read into; nil
// when the stream was cut or the exec given up.
func (s *session) reserve(i int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, log := &s.pumps[i], &s.st.logs[i]
	for {
		switch {
		case s.abandoned || log.eof:
			return nil
		case s.frozen && !p.parked && p.interruptible:
			// Processes are paused: what is left is at most a pipe's buffer, and
			// it must be in the log before the log is exported.
			return s.begin(i, fullChunk)
		case !s.frozen && log.room(s.st.keep(i)) > 0:
			return s.begin(i, log.room(s.st.keep(i)))
		}
		if s.frozen && !p.parked {
			p.parked = true
			s.cond.Broadcast()
		}
		s.cond.Wait()
	}
}

func (s *session) begin(i int, n int64) []byte {
	s.pumps[i].reading = true
	if s.st.exit != nil {
		s.armDrain(i)
	}
	return s.st.logs[i].tail(n)
}

// commit takes over n bytes; false means that the stream was cut meanwhile.
func (s *session) commit(i, n int, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, log := &s.pumps[i], &s.st.logs[i]
	p.reading = false
	if p.drain != nil {
		p.left -= s.opts.now().Sub(p.waiting)
		p.disarm()
	}
	if s.frozen && errors.Is(err, os.ErrDeadlineExceeded) {
		p.parked = true
	}
	if log.eof {
		return false
	}
	log.commit(n, s.st.keep(i))
	if n > 0 || p.parked {
		s.changed()
	}
	return true
}

// armDrain lets the drain time of stream i run while a Read waits. The caller
// holds mu.
func (s *session) armDrain(i int) {
	p := &s.pumps[i]
	if !p.reading || p.drain != nil || s.st.logs[i].eof {
		return
	}
	if !p.started {
		p.started, p.left = true, s.opts.Drain
		if s.st.spec.GetTerminal() != nil {
			p.left = s.opts.TerminalDrain
		}
	}
	p.waiting = s.opts.now()
	var timer *time.Timer
	timer = time.AfterFunc(max(p.left, time.Nanosecond), func() { s.cut(i, &timer) })
	p.drain = timer
}

// cut ends a stream that something inside still holds open after the lead
// process ended. That is its clean end: see REQ-EXEC-036.
// timer tells a timer that was disarmed too late; mu guards it.
func (s *session) cut(i int, timer **time.Timer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pumps[i].drain != *timer {
		return
	}
	s.st.logs[i].finish(nil)
	s.changed()
}

// feed moves accepted stdin into the process.
func (s *session) feed() {
	w := s.proc.Stdin()
	if w == nil {
		s.fed(0, io.ErrClosedPipe)
		return
	}
	for {
		data, done := s.nextInput()
		if done {
			if err := guardedClose(w); err != nil && !errors.Is(err, os.ErrClosed) {
				s.log.Warn("closing stdin failed", "error", err)
			}
			return
		}
		if data == nil {
			return
		}
		n, err := guardedWrite(w, data)
		s.fed(n, err)
	}
}

// nextInput waits for bytes to write. No bytes and done means half-close; no
// bytes and not done means that nobody reads any more.
func (s *session) nextInput() (data []byte, done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.st.in.gone || s.abandoned {
			return nil, false
		}
		data, done = s.st.in.next()
		if (data != nil || done) && !s.frozen {
			s.feeding = data != nil
			return data, done
		}
		s.cond.Wait()
	}
}

func (s *session) fed(n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feeding = false
	s.st.in.wrote(n)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		s.st.in.discard()
	}
	s.changed()
}

func guardedRead(r io.Reader, buf []byte) (n int, err error) {
	defer recovered(&err)
	return r.Read(buf)
}

func guardedWrite(w io.Writer, data []byte) (n int, err error) {
	defer recovered(&err)
	return w.Write(data)
}

func guardedClose(w io.Closer) (err error) {
	defer recovered(&err)
	return w.Close()
}

// recovered turns a panic of the driver's code into an error.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
	}
}
