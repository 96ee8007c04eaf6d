package system

import (
	"strconv"
	"strings"
)

// Signal is a signal's number on Linux.
type Signal int

// The signals that the fake knows.
const (
	SIGHUP   Signal = 1
	SIGINT   Signal = 2
	SIGQUIT  Signal = 3
	SIGKILL  Signal = 9
	SIGUSR1  Signal = 10
	SIGUSR2  Signal = 12
	SIGPIPE  Signal = 13
	SIGALRM  Signal = 14
	SIGTERM  Signal = 15
	SIGCHLD  Signal = 17
	SIGCONT  Signal = 18
	SIGSTOP  Signal = 19
	SIGTSTP  Signal = 20
	SIGWINCH Signal = 28
)

var signalNames = map[Signal]string{
	SIGHUP: "HUP", SIGINT: "INT", SIGQUIT: "QUIT", SIGKILL: "KILL", SIGUSR1: "USR1", SIGUSR2: "USR2", SIGPIPE: "PIPE",
	SIGALRM: "ALRM", SIGTERM: "TERM", SIGCHLD: "CHLD", SIGCONT: "CONT", SIGSTOP: "STOP", SIGTSTP: "TSTP", SIGWINCH: "WINCH",
}

// SignalList is all signals in the order of their numbers.
var SignalList = []Signal{
	SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGUSR1, SIGUSR2, SIGPIPE, SIGALRM, SIGTERM, SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGWINCH,
}

// String returns the name with SIG, such as SIGTERM.
func (s Signal) String() string {
	if name := signalNames[s]; name != "" {
		return "SIG" + name
	}
	return "signal " + strconv.Itoa(int(s))
}

// ParseSignal reads a name, with or without SIG, or a number; 0 is one too.
func ParseSignal(text string) (Signal, bool) {
	if n, err := strconv.Atoi(text); err == nil {
		_, known := signalNames[Signal(n)]
		return Signal(n), known || n == 0
	}
	text = strings.TrimPrefix(strings.ToUpper(text), "SIG")
	for s, name := range signalNames {
		if name == text {
			return s, true
		}
	}
	return 0, false
}

// Action is what a signal does to a process.
type Action uint8

// The actions.
const (
	Default Action = iota
	Ignore
	// Catch keeps it for Caught, and interrupts a call that waits.
	Catch
)

// Fatal says whether the default of a signal ends a process.
func (s Signal) Fatal() bool {
	switch s {
	case SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGWINCH:
		return false
	}
	return true
}
