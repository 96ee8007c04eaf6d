package cli

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// signalRouter reads the process's signals for as long as it lives and gives
// them to one handler at a time. No signal has its default effect meanwhile, so
// nothing ends this process without its clean-up.
type signalRouter struct {
	ch   chan os.Signal
	done chan struct{}

	mu sync.Mutex
	to func(os.Signal)
}

func newSignalRouter() *signalRouter {
	r := &signalRouter{ch: make(chan os.Signal, 32), done: make(chan struct{}), to: func(os.Signal) {}}
	// SIGPIPE is taken so that a closed pipe is an error of the write and not
	// the end of the process.
	signal.Notify(r.ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGPIPE)
	go func() {
		defer close(r.done)
		for s := range r.ch {
			r.mu.Lock()
			to := r.to
			r.mu.Unlock()
			to(s)
		}
	}()
	return r
}

// handle makes h the receiver of signals until the returned function is called.
// The initial handler of the process ignores what does not interrupt.
func (r *signalRouter) handle(h func(os.Signal)) (restore func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.to
	r.to = h
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.to = before
	}
}

func (r *signalRouter) close() {
	signal.Stop(r.ch)
	close(r.ch)
	<-r.done
}

// interrupts reports whether a signal asks this process to end.
func interrupts(s os.Signal) bool {
	return s == syscall.SIGINT || s == syscall.SIGTERM || s == syscall.SIGHUP || s == syscall.SIGQUIT
}

// interruptedError is the cause of a context that a signal ended.
type interruptedError struct{ signal os.Signal }

func (e *interruptedError) Error() string { return fmt.Sprintf("interrupted by %s", e.signal) }

// code is the exit code that shells give a process that a signal ended.
func (e *interruptedError) code() int {
	if s, ok := e.signal.(syscall.Signal); ok {
		return 128 + int(s)
	}
	return codeFailure
}

// signalNumber returns the number of a signal by name, such as SIGKILL; 0 if
// this machine does not know it.
func signalNumber(name string) int { return int(unix.SignalNum(name)) }
