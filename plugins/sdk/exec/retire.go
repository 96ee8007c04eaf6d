package exec

import (
	"slices"
	"time"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// deleteGrace is how long commands of a deleted sandbox may take to end by
// themselves, so that their last output is not cut.
const deleteGrace = 2 * time.Second

// retire keeps the ended session for a while and makes room for it.
func (t *Table) retire(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.retireLocked(s)
}

func (t *Table) retireLocked(s *session) {
	key := s.st.key
	if t.closed || t.sessions[key] != s {
		return
	}
	t.expiry[key] = time.AfterFunc(t.opts.KeepFor, func() { t.expire(s) })
	t.shrink()
}

func (t *Table) expire(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, _, watched := s.finished(); !watched {
		t.evict(s)
		return
	}
	if timer := t.expiry[s.st.key]; timer != nil && !t.closed {
		timer.Reset(t.opts.KeepFor)
	}
}

// detached is called when an attachment left, which may have been all that kept
// an ended session.
func (t *Table) detached(*session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shrink()
}

// shrink evicts the longest ended sessions above KeepFinished. Those that are
// being read stay until their readers leave. The caller holds mu.
func (t *Table) shrink() {
	if len(t.sessions) <= t.opts.KeepFinished {
		return
	}
	type candidate struct {
		s  *session
		at time.Time
	}
	var ended []candidate
	for _, s := range t.sessions {
		if at, over, watched := s.finished(); over && !watched {
			ended = append(ended, candidate{s, at})
		}
	}
	slices.SortFunc(ended, func(a, b candidate) int { return a.at.Compare(b.at) })
	for len(ended) > t.opts.KeepFinished {
		t.evict(ended[0].s)
		ended = ended[1:]
	}
}

// evict forgets a session. The caller holds mu.
func (t *Table) evict(s *session) {
	key := s.st.key
	if t.sessions[key] != s {
		return
	}
	if timer := t.expiry[key]; timer != nil {
		timer.Stop()
		delete(t.expiry, key)
	}
	delete(t.sessions, key)
	s.abandon(fault.New(providerv1.ErrorReason_ERROR_REASON_EXEC_NOT_FOUND,
		"exec %q is no longer kept", key.Exec).With("exec_id", key.Exec))
}

// Deleting tells the table that a sandbox is about to be deleted: the ends of
// its commands from now on have cause SANDBOX. The returned function says
// whether it was.
func (t *Table) Deleting(sandbox string) func(deleted bool) {
	var found []*session
	t.mu.Lock()
	for key, s := range t.sessions {
		if key.Sandbox == sandbox {
			found = append(found, s)
		}
	}
	t.mu.Unlock()
	for _, s := range found {
		s.setDeleted(true)
	}
	return func(deleted bool) {
		for _, s := range found {
			if !deleted {
				s.setDeleted(false)
				continue
			}
			t.forget(s)
		}
	}
}

func (s *session) setDeleted(v bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.did.deleted = v
}

// forget removes a session of a deleted sandbox from the table at once, and
// gives its end and its readers a moment.
func (t *Table) forget(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := s.st.key
	if t.closed || t.sessions[key] != s {
		return
	}
	if timer := t.expiry[key]; timer != nil {
		timer.Stop()
		delete(t.expiry, key)
	}
	delete(t.sessions, key)
	t.wg.Go(func() {
		grace := time.NewTimer(deleteGrace)
		defer grace.Stop()
		select {
		case <-s.over:
		case <-grace.C:
			s.giveUp()
		}
	})
}

// giveUp ends a session whose process does not report its end, without failing
// its attachments: they get what there is and an honest Done.
func (s *session) giveUp() {
	s.cancel() // Wait returns, and settle knows that the sandbox was deleted
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.st.logs {
		s.st.logs[i].finish(nil)
	}
	s.changed()
}

// Close gives up every exec without killing anything and waits until nothing of
// the table runs any more. Attachments end with DRAINING.
func (t *Table) Close() {
	t.mu.Lock()
	t.closed = true
	for _, timer := range t.expiry {
		timer.Stop()
	}
	clear(t.expiry)
	all := make([]*session, 0, len(t.sessions))
	for _, s := range t.sessions {
		all = append(all, s)
	}
	t.mu.Unlock()
	for _, s := range all {
		s.abandon(errClosed())
	}
	t.wg.Wait()
}
