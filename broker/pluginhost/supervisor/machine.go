package supervisor

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Limits are the numbers of the policy.
type Limits struct {
	// BackoffBase and BackoffMax bound the wait before a restart: a random time
	// up to BackoffBase·2ⁿ, at most BackoffMax.
	BackoffBase, BackoffMax time.Duration
	// Stable is how long a process must serve for its past to be forgotten.
	Stable time.Duration
	// MaxExits within Window lead to quarantine.
	MaxExits int
	Window   time.Duration
	// HalfOpen is the time between attempts in quarantine.
	HalfOpen time.Duration
	// HealthEvery and HealthDeadline say how the owner asks for signs of life;
	// MaxMisses in a row mean that the process hangs.
	HealthEvery, HealthDeadline time.Duration
	MaxMisses                   int
	// Reprobe is the time between probes of a degraded provider.
	Reprobe time.Duration
}

// Defaults returns the limits in production.
func Defaults() Limits {
	return Limits{
		BackoffBase: 250 * time.Millisecond, // a crash at start costs callers little
		BackoffMax:  30 * time.Second,
		Stable:      time.Minute,
		MaxExits:    5,
		Window:      5 * time.Minute,
		HalfOpen:    time.Minute,
		Reprobe:     30 * time.Second,

		HealthEvery:    5 * time.Second,
		HealthDeadline: 2 * time.Second,
		MaxMisses:      2, // one may be a busy machine
	}
}

// Machine is the state of one plugin.
type Machine struct {
	limits Limits
	jitter func(limit time.Duration) time.Duration

	state  State
	reason string
	gen    uint64
	alive  bool // a process of generation gen may exist
	again  bool // start another one when it is gone

	wake         time.Time // zero: nothing to wait for
	servingSince time.Time // zero: not serving
	misses       int
	verdict      string // why we killed the live process
	attempt      int    // restarts since the last stable run
	exits        []time.Time
	halfOpen     bool // the live process is an attempt out of quarantine
}

// New returns a machine in state Stopped. jitter returns a random duration from
// zero up to limit.
func New(limits Limits, jitter func(limit time.Duration) time.Duration) *Machine {
	return &Machine{limits: limits, jitter: jitter, state: Stopped}
}

// State returns the current state.
func (m *Machine) State() State { return m.state }

// Reason says why the state is not Ready, in one sentence or more.
func (m *Machine) Reason() string { return m.reason }

// Generation counts processes; that of the latest one.
func (m *Machine) Generation() uint64 { return m.gen }

// Alive reports whether a process may exist.
func (m *Machine) Alive() bool { return m.alive }

// Wake returns when Tick is due; false: no Tick is needed.
func (m *Machine) Wake() (time.Time, bool) { return m.wake, !m.wake.IsZero() }

// Step takes one event and returns what is to be done, in order. Events about
// processes of the past change nothing.
func (m *Machine) Step(now time.Time, event Event) []Action {
	switch ev := event.(type) {
	case Want:
		return m.want()
	case Restart:
		return m.restart()
	case Stop:
		return m.stop()
	case Tick:
		return m.tick(now)
	case Connected:
		if m.concerns(ev.Gen) && m.state == Starting {
			m.state = Configuring
		}
	case Configured:
		if m.concerns(ev.Gen) && m.state == Configuring {
			m.servingSince = now
			m.serve(now, ev.Reasons)
		}
	case Probed:
		if m.concerns(ev.Gen) && m.state.Serving() {
			m.serve(now, ev.Reasons)
		}
	case Health:
		return m.health(ev)
	case Exited:
		return m.exited(now, ev)
	}
	return nil
}

// concerns tells news of the live process from late news of an earlier one.
func (m *Machine) concerns(gen uint64) bool { return m.alive && gen == m.gen }

func (m *Machine) want() []Action {
	switch {
	case m.state != Stopped:
		return nil
	case m.alive:
		m.again = true
		return nil
	}
	return m.launch()
}

func (m *Machine) restart() []Action {
	m.attempt, m.exits, m.halfOpen = 0, nil, false
	if !m.alive {
		return m.launch()
	}
	m.again = true
	if m.state == Stopped {
		return nil
	}
	return m.end("restarting on request")
}

func (m *Machine) stop() []Action {
	m.again = false
	if !m.alive || m.state == Stopped {
		m.state, m.reason, m.wake = Stopped, "", time.Time{}
		return nil
	}
	return m.end("stopping")
}

// end asks the live process to go; the state is Stopped until it has gone.
func (m *Machine) end(reason string) []Action {
	act := End
	if !m.state.Serving() { // nothing is in flight, and it may not listen yet
		act = Kill
	}
	m.state, m.reason, m.wake, m.servingSince = Stopped, reason, time.Time{}, time.Time{}
	return []Action{{Act: act, Gen: m.gen}}
}

func (m *Machine) launch() []Action {
	m.gen++
	m.alive, m.again = true, false
	m.state, m.wake, m.servingSince, m.misses = Starting, time.Time{}, time.Time{}, 0
	m.verdict = ""
	return []Action{{Act: Launch, Gen: m.gen}}
}

func (m *Machine) tick(now time.Time) []Action {
	if m.wake.IsZero() || now.Before(m.wake) {
		return nil
	}
	m.wake = time.Time{}
	switch m.state {
	case Backoff:
		return m.launch()
	case Quarantined:
		m.halfOpen = true
		return m.launch()
	case Degraded:
		m.wake = now.Add(m.limits.Reprobe)
		return []Action{{Act: Probe, Gen: m.gen}}
	default:
		return nil
	}
}

func (m *Machine) serve(now time.Time, reasons []string) {
	if len(reasons) == 0 {
		m.state, m.reason, m.wake = Ready, "", time.Time{}
		return
	}
	m.state, m.reason = Degraded, strings.Join(reasons, "; ")
	m.wake = now.Add(m.limits.Reprobe)
}

func (m *Machine) health(ev Health) []Action {
	if !m.concerns(ev.Gen) || !m.state.Serving() {
		return nil
	}
	if ev.Missed == "" {
		m.misses = 0
		return nil
	}
	if m.misses++; m.misses != m.limits.MaxMisses {
		return nil
	}
	m.verdict = fmt.Sprintf("did not answer %d health checks in a row (%s); ", m.misses, ev.Missed)
	return []Action{{Act: Kill, Gen: m.gen}}
}

func (m *Machine) exited(now time.Time, ev Exited) []Action {
	if !m.concerns(ev.Gen) {
		return nil
	}
	m.alive = false
	ev.Reason = m.verdict + ev.Reason
	if m.state == Stopped { // we asked for it
		if m.again {
			return m.launch()
		}
		m.reason = ""
		return nil
	}
	if !m.servingSince.IsZero() && now.Sub(m.servingSince) >= m.limits.Stable {
		m.attempt = 0
		if m.halfOpen {
			m.exits, m.halfOpen = nil, false
		}
	}
	m.servingSince = time.Time{}
	m.exits = append(m.exits, now)
	m.exits = slices.DeleteFunc(m.exits, func(t time.Time) bool { return now.Sub(t) > m.limits.Window })
	m.wait(now, ev)
	return nil
}

// wait goes to Backoff or Quarantined.
func (m *Machine) wait(now time.Time, ev Exited) {
	m.reason = ev.Reason
	if ev.Hopeless || m.halfOpen || len(m.exits) >= m.limits.MaxExits {
		m.state, m.wake = Quarantined, now.Add(m.limits.HalfOpen)
		if !ev.Hopeless {
			m.reason = fmt.Sprintf("ended %d times in %s; the last time: %s", len(m.exits), m.limits.Window, ev.Reason)
		}
		return
	}
	limit := m.limits.BackoffMax
	if m.attempt < 30 { // a larger shift overflows
		limit = min(limit, m.limits.BackoffBase<<m.attempt)
	}
	m.attempt++
	m.state, m.wake = Backoff, now.Add(m.jitter(limit))
}
