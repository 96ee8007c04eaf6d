// Package local is the provider that runs sandboxes on this machine, in gVisor,
// without a daemon, an account or root.
//
// The plugin process holds no sandbox. Each lives in a process of its own
// (package shim), its record lies on disk (package record), and the plugin finds
// both again after a restart, so that killing it, or the broker, loses nothing.
// Calls that act inside a sandbox are handed on to its shim, which speaks the
// same contract.
//
// Locks: a call that changes a sandbox holds the sandbox's keyed lock; the lock
// of the state folder keeps a second plugin process out. The keyed lock is taken
// before a shim's lock, never after.
package local
