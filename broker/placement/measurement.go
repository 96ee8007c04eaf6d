package placement

import (
	"math"
	"time"
)

const (
	// halfLife is how long it takes until what was measured counts half. A vendor's
	// bad quarter of an hour is forgotten in the next one or two.
	halfLife = 10 * time.Minute
	// priorLatency is assumed of a provider that was not measured, with the weight
	// of priorSamples creations: good enough to be tried, not so good that it goes
	// before one that is known to be quick.
	priorLatency = 250 * time.Millisecond
	priorSamples = 1
	// tripAfter failures in a row, each after the attempts of one call, are no
	// accident.
	tripAfter = 3
	// openFirst is how long a provider is left alone after that. It doubles up to
	// openMax with each creation that is tried then and fails.
	openFirst = 30 * time.Second
	openMax   = 10 * time.Minute
	// coolDefault is for a provider that wants fewer calls and does not say for how
	// long; coolMax bounds what one may say, which could be a mistake.
	coolDefault = 5 * time.Second
	coolMax     = time.Hour
)

// Circuit is whether a provider that failed is tried.
type Circuit uint8

const (
	// Closed means that nothing is wrong.
	Closed Circuit = iota
	// Open means that the provider is left alone.
	Open
	// HalfOpen means that one creation at a time may find out whether it works.
	HalfOpen
)

// String returns the name in lower case.
func (c Circuit) String() string {
	switch c {
	case Closed:
		return "closed"
	case Open:
		return "open"
	case HalfOpen:
		return "half_open"
	}
	return "invalid"
}

// Measurement is what is known about a provider from its creations. The zero
// value knows nothing. Methods return the changed value.
type Measurement struct {
	// Good and Bad count creations that worked and that failed because of the
	// provider, Seconds adds up how long the good ones took; all of them are as of
	// At and count half after each halfLife.
	Good, Bad, Seconds float64
	At                 time.Time
	// Streak counts failures since the last success.
	Streak int
	// OpenUntil is when an open circuit becomes half-open; zero: it is closed.
	OpenUntil time.Time
	// Openings counts how often in a row it opened.
	Openings int
	// CoolUntil is when a provider that wanted fewer calls may be called again.
	CoolUntil time.Time
}

// decayed is m as of now. A clock that was set back changes nothing.
func (m Measurement) decayed(now time.Time) Measurement {
	age := now.Sub(m.At)
	if age <= 0 {
		return m
	}
	left := math.Exp2(-float64(age) / float64(halfLife))
	m.Good, m.Bad, m.Seconds, m.At = m.Good*left, m.Bad*left, m.Seconds*left, now
	if age > halfLife {
		m.Streak = 0 // what was long ago is not in a row with what is now
	}
	return m
}

// Succeeded adds a creation that worked and took so long. It closes the circuit.
func (m Measurement) Succeeded(now time.Time, took time.Duration) Measurement {
	m = m.decayed(now)
	m.Good++
	m.Seconds += took.Seconds()
	m.Streak, m.OpenUntil, m.Openings = 0, time.Time{}, 0
	return m
}

// Failed adds a creation that failed because of the provider. A half-open circuit
// opens again for longer; what was under way when it opened changes no time.
func (m Measurement) Failed(now time.Time) Measurement {
	m = m.decayed(now)
	m.Bad++
	m.Streak++
	tripped := m.OpenUntil.IsZero() && m.Streak >= tripAfter
	if tripped || m.Circuit(now) == HalfOpen {
		m.OpenUntil = now.Add(min(openFirst<<min(m.Openings, 10), openMax))
		m.Openings++
	}
	return m
}

// Throttled notes that the provider wants no call for so long; zero: it did not
// say.
func (m Measurement) Throttled(now time.Time, wait time.Duration) Measurement {
	m = m.decayed(now)
	if wait <= 0 {
		wait = coolDefault
	}
	if until := now.Add(min(wait, coolMax)); until.After(m.CoolUntil) {
		m.CoolUntil = until
	}
	return m
}

// Circuit returns the state of the circuit.
func (m Measurement) Circuit(now time.Time) Circuit {
	switch {
	case m.OpenUntil.IsZero():
		return Closed
	case now.Before(m.OpenUntil):
		return Open
	default:
		return HalfOpen
	}
}

// Samples returns how many creations are known of; old ones count less.
func (m Measurement) Samples(now time.Time) float64 {
	m = m.decayed(now)
	return m.Good + m.Bad
}

// FailureRate returns the share of creations that failed. It grows with each
// failure and falls with time, because what was assumed before the first
// measurement, one creation that worked, does not decay.
func (m Measurement) FailureRate(now time.Time) float64 {
	m = m.decayed(now)
	return m.Bad / (m.Good + m.Bad + priorSamples)
}

// leastSamples is how many creations make a measurement; less is as good as
// forgotten. One creation counts for 43 minutes.
const leastSamples = 0.05

// Measured returns how long a creation took on average. Unlike Latency it assumes
// nothing: ok is false if no creation that worked is remembered.
func (m Measurement) Measured(now time.Time) (latency time.Duration, ok bool) {
	m = m.decayed(now)
	if m.Good < leastSamples {
		return 0, false
	}
	return time.Duration(m.Seconds / m.Good * float64(time.Second)), true
}

// Latency returns how long a creation takes. It drifts back to what is assumed of
// a provider that was not measured, so that a slow one gets another chance.
func (m Measurement) Latency(now time.Time) time.Duration {
	m = m.decayed(now)
	seconds := (m.Seconds + priorSamples*priorLatency.Seconds()) / (m.Good + priorSamples)
	return time.Duration(seconds * float64(time.Second))
}
