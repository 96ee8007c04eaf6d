package supervisor

import "fmt"

// State is where a plugin is. The numbers are those of PluginState in the public
// API.
type State uint8

const (
	// Stopped means not wanted, or not yet.
	Stopped State = iota + 1
	// Starting means that a process was asked for and has not shaken hands.
	Starting
	// Configuring means that it talks, and is being described, configured and probed.
	Configuring
	// Ready means that calls go through.
	Ready
	// Degraded means that calls go through, but the provider says that something is amiss.
	Degraded
	// Backoff means that it ended; the next start is scheduled.
	Backoff
	// Quarantined means that it ended too often, or cannot be started until somebody changes
	// something. One attempt is made from time to time.
	Quarantined
)

var stateNames = [...]string{"invalid", "stopped", "starting", "configuring", "ready", "degraded", "backoff", "quarantined"}

// String returns the name in lower case.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// Serving reports whether calls go through.
func (s State) Serving() bool { return s == Ready || s == Degraded }

// Event is something that happened to the plugin.
type Event interface{ event() }

// Want asks for the plugin to run; it changes nothing where it does already.
type Want struct{}

// Restart ends a live process and starts another, and lifts a quarantine.
type Restart struct{}

// Stop ends the plugin for good.
type Stop struct{}

// Tick says that the time returned by Wake has come.
type Tick struct{}

// Connected says that process Gen shook hands.
type Connected struct{ Gen uint64 }

// Configured says that process Gen is usable; with reasons, only just.
type Configured struct {
	Gen     uint64
	Reasons []string
}

// Probed is the outcome of a later probe; no reasons mean all is well.
type Probed struct {
	Gen     uint64
	Reasons []string
}

// Health is the outcome of one health check of process Gen.
type Health struct {
	Gen uint64
	// Missed says what went wrong; empty: it answered.
	Missed string
}

// Exited says that process Gen is gone, or that it never came to be. It is the
// last event about Gen.
type Exited struct {
	Gen    uint64
	Reason string
	// Hopeless marks failures that trying again cannot mend, such as a binary
	// that does not match the lock file.
	Hopeless bool
}

func (Want) event()       {}
func (Restart) event()    {}
func (Stop) event()       {}
func (Tick) event()       {}
func (Connected) event()  {}
func (Configured) event() {}
func (Probed) event()     {}
func (Health) event()     {}
func (Exited) event()     {}

// Act is what the owner must do to process Gen.
type Act uint8

const (
	// Launch starts process Gen. Exited must follow in the end.
	Launch Act = iota + 1
	// End stops process Gen in good order.
	End
	// Kill ends process Gen at once.
	Kill
	// Probe asks process Gen whether it is still degraded.
	Probe
)

var actNames = [...]string{"invalid", "launch", "end", "kill", "probe"}

// Action is one thing to do.
type Action struct {
	Act Act
	Gen uint64
}

// String returns the form that transcripts use, such as launch(3).
func (a Action) String() string { return fmt.Sprintf("%s(%d)", actNames[a.Act], a.Gen) }
