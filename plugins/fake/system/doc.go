// Package system is the border between the fake's programs and the world they
// run in: what a process of Unix can ask of its kernel, and nothing else.
//
// Programs (package userland) and the shell (package shell) are written against
// Process alone, so that there is no way from a script to the machine that the
// plugin runs on. Package fake implements it on a tree in memory.
//
// # Calls
//
// Every method of Process is a system call: it stands still while the process is
// stopped or its sandbox is paused, and does not return once the process has
// been killed; deferred functions run, as with runtime.Goexit. A program must
// therefore make its calls from its own goroutine, and needs no code for being
// killed. Calls that wait return syscall.EINTR when a caught signal is pending.
//
// Errors are of type syscall.Errno. Names may be relative to Dir.
package system
