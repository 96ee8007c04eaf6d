package fake

import (
	"slices"
	"syscall"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// deliver does what the process asked for, or else what Linux does by default.
func (p *process) deliver(s system.Signal) {
	if s == 0 {
		return // it only asks
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	action := p.actions[s]
	switch {
	case s == system.SIGKILL, action == system.Default && s.Fatal():
		if p.killedBy == 0 {
			p.killedBy = s
		}
		p.cancel()
		return
	case s == system.SIGSTOP, s == system.SIGTSTP && action == system.Default:
		p.stopped = true
	case s == system.SIGCONT:
		p.stopped = false
	}
	if action == system.Catch && !slices.Contains(p.pending, s) {
		p.pending = append(p.pending, s)
		p.interrupted = true
	}
	p.changed.ring()
}

// volley delivers a signal to the processes that list finds, to all of them in
// one moment: none that it kills is seen dead by another that it kills, as the
// shell would see the command that it waits for.
func (b *box) volley(s system.Signal, list func() []*process) {
	b.live.volley.Lock()
	defer b.live.volley.Unlock()
	for _, p := range list() {
		p.deliver(s)
	}
}

// endAll kills processes because their sandbox ends, all of them in one moment:
// none runs on because another was killed, and ends well. It waits for them.
func endAll(procs []*process) {
	for _, p := range procs {
		p.freeze(true)
	}
	for _, p := range procs {
		p.mu.Lock()
		p.orphaned = true
		p.mu.Unlock()
		p.deliver(system.SIGKILL)
	}
	for _, p := range procs {
		<-p.done
	}
}

func (p *process) freeze(v bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = v
	p.changed.ring()
}

// Handle implements system.Process.
func (p *process) Handle(s system.Signal, a system.Action) system.Action {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.actions[s]
	if s != system.SIGKILL && s != system.SIGSTOP {
		p.actions[s] = a
	}
	return was
}

// Caught implements system.Process.
func (p *process) Caught() (system.Signal, bool) {
	p.Checkpoint()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pending) == 0 {
		p.interrupted = false
		return 0, false
	}
	s := p.pending[0]
	p.pending = p.pending[1:]
	return s, true
}

// Kill implements system.Process.
func (p *process) Kill(pid int, s system.Signal) error {
	p.Checkpoint()
	found, denied := false, false
	p.box.volley(s, func() []*process {
		targets := p.targets(pid)
		allowed := slices.DeleteFunc(slices.Clone(targets), func(other *process) bool { return p.uid != 0 && other.uid != p.uid })
		found, denied = len(allowed) > 0, len(allowed) < len(targets)
		return allowed
	})
	p.Checkpoint()
	switch {
	case found:
		return nil
	case denied:
		return syscall.EPERM
	}
	return syscall.ESRCH
}

// targets returns the processes that a pid of kill means.
func (p *process) targets(pid int) []*process {
	if pid == 0 {
		return p.cmd.group()
	}
	p.cloud.mu.Lock()
	defer p.cloud.mu.Unlock()
	var out []*process
	for other := range p.box.live.procs {
		if other.pid == pid || (pid == -1 && other != p) || (pid < -1 && other.cmd.lead.pid == -pid) {
			out = append(out, other)
		}
	}
	return out
}

// Sleep implements system.Process. Time in which the sandbox is paused does not
// count.
func (p *process) Sleep(d time.Duration) error {
	p.Checkpoint()
	for d > 0 {
		wake, start := make(chan struct{}), time.Now()
		timer := time.AfterFunc(d, func() { close(wake) })
		err := p.awaitAwake(wake)
		timer.Stop()
		d -= time.Since(start)
		p.Checkpoint()
		if err != nil {
			return err
		}
	}
	return nil
}

// awaitAwake is await that leaves standing still to its caller, who measures.
func (p *process) awaitAwake(wake <-chan struct{}) error {
	p.mu.Lock()
	if p.interrupted || p.gone {
		p.interrupted = false
		p.mu.Unlock()
		return syscall.EINTR
	}
	changed := p.changed.wait()
	p.mu.Unlock()
	select {
	case <-wake:
	case <-changed:
	case <-p.ctx.Done():
	}
	return nil
}

// Now implements system.Process.
func (p *process) Now() time.Time {
	p.Checkpoint()
	return p.cloud.now()
}
