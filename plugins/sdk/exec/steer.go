package exec

import (
	"context"
	"strconv"
	"time"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	// steerTimeout bounds one Signal or Resize of a driver.
	steerTimeout = 10 * time.Second
	// killAgain is how long after a failed kill the next one is tried.
	killAgain = time.Second
	// maxSignals bounds the signals that wait for a slow driver.
	maxSignals = 64
)

// steer is the one goroutine that signals and resizes, so that signals keep
// their order; it also enforces the timeout.
func (s *session) steer() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			s.refuseSignals()
			return
		case <-timer.C:
			if again := s.expire(); again > 0 {
				timer.Reset(again)
			}
		case <-s.control:
			s.applyControls()
		}
	}
}

// expire kills the command if its time is over, and returns after how long to
// look again; 0 means never.
func (s *session) expire() time.Duration {
	s.mu.Lock()
	deadline, frozen, over := s.deadline, s.frozen, s.st.exit != nil
	left := deadline.Sub(s.opts.now())
	due := !deadline.IsZero() && !over && !frozen && left <= 0
	s.did.timedOut = s.did.timedOut || due
	s.mu.Unlock()
	switch {
	case deadline.IsZero() || over:
		return 0
	case !due:
		return max(left, killAgain/10)
	}
	if err := s.callSignal(providerv1.ExecSignal_EXEC_SIGNAL_KILL); err != nil {
		s.log.Warn("killing an expired command failed", "error", err)
	}
	return killAgain // until the end is seen: a kill may be lost on its way
}

func (s *session) applyControls() {
	s.mu.Lock()
	signals, size := s.signals, s.size
	s.signals, s.size = nil, nil
	s.mu.Unlock()
	if size != nil {
		if err := s.callResize(size); err != nil {
			s.log.Warn("resizing a terminal failed", "error", err)
		}
	}
	for _, r := range signals {
		err := s.callSignal(r.signal)
		if s.ctx.Err() != nil {
			err = nil // the command ended while it was told, perhaps by this very signal
		}
		r.done <- err
	}
}

func (s *session) callSignal(signal providerv1.ExecSignal) (err error) {
	ctx, cancel := context.WithTimeout(s.ctx, steerTimeout)
	defer cancel()
	defer recovered(&err)
	return s.proc.Signal(ctx, signal)
}

func (s *session) callResize(size *providerv1.Terminal) (err error) {
	ctx, cancel := context.WithTimeout(s.ctx, steerTimeout)
	defer cancel()
	defer recovered(&err)
	return s.proc.Resize(ctx, size)
}

func (s *session) refuseSignals() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.signals {
		r.done <- nil // the command has ended
	}
	s.signals = nil
}

// signal queues a signal and returns the channel of its outcome, which is
// buffered. After the end of the command it does nothing.
func (s *session) signal(signal providerv1.ExecSignal) (<-chan error, error) {
	done := make(chan error, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.st.exit != nil || s.ctx.Err() != nil {
		done <- nil
		return done, nil
	}
	if len(s.signals) == maxSignals {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED,
			"%d signals wait for exec %q already", maxSignals, s.st.key.Exec).
			With("exec_id", s.st.key.Exec).With("waiting", strconv.Itoa(maxSignals))
	}
	s.did.sent[SignalName(signal)] = true
	s.signals = append(s.signals, signalRequest{signal: signal, done: done})
	s.wakeSteer()
	return done, nil
}

// resize remembers the size with the highest seq. The caller holds mu.
func (s *session) resize(r *providerv1.ExecResize) error {
	if s.st.spec.GetTerminal() == nil {
		return fault.Field("input.resize", strconv.FormatUint(r.GetSeq(), 10), "the command has no terminal; want no resize")
	}
	if r.GetSize().GetRows() == 0 || r.GetSize().GetCols() == 0 || r.GetSize().GetRows() > maxCells || r.GetSize().GetCols() > maxCells {
		return fault.Field("input.resize.size",
			strconv.FormatUint(uint64(r.GetSize().GetRows()), 10)+"x"+strconv.FormatUint(uint64(r.GetSize().GetCols()), 10),
			"want rows and cols from 1 to "+strconv.Itoa(maxCells))
	}
	if r.GetSeq() <= s.st.sizeSeq {
		return nil
	}
	s.st.sizeSeq, s.size = r.GetSeq(), r.GetSize()
	s.wakeSteer()
	return nil
}

// maxCells is what a terminal's size field holds.
const maxCells = 65535

func (s *session) wakeSteer() {
	select {
	case s.control <- struct{}{}:
	default:
	}
}
