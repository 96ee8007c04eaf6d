// Package runner runs commands in sandboxes whose vendor can do no more than to
// start a program, to stream what it prints as text, and to write files.
//
// The contract needs more: every byte as it is, standard output and standard error
// apart, how a death by signal differs from an exit code, a command that waits for
// its reader, and standard input. So what is started is a small program inside the
// sandbox, the runner, which starts the command and tells of it in lines of ASCII:
// see protocol.go. This package is the other side of it. What a vendor does for it
// is the interface Host.
//
// A tunnel to a port is such a command too, where a vendor has no other way in: see
// tunnel.go.
//
// A Pool owns all goroutines; closing it ends them, and leaves the commands to the
// vendor. Everything is safe for concurrent use.
package runner
