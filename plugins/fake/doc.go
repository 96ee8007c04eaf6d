// Package fake is the reference provider: a whole vendor in memory, with real
// semantics and no isolation, because nothing it runs comes from outside.
//
// Files, volumes, snapshots, forks, lifetimes, idempotency keys and limits
// behave as the contract says.
//
// # What runs inside
//
// Commands are programs written in Go, in processes that are goroutines. They
// see a small Unix: package system is its system calls, package userland the
// utilities that docs/spec/guest.md asks for, package shell /bin/sh and
// /bin/bash. Nothing they do can reach the machine, as there is no call for it:
// a test tries. The fake is a tree in memory, with owners, modes, symbolic links
// and devices; processes with ids, parents, groups, signals, pipes and
// descriptors; terminals with a line discipline; TCP on the loopback interface.
//
// A program is a file that begins with "#!fake NAME"; a copy of the file is the
// same program. Any other file that may be executed is a script.
//
// A process stands still at its next system call while the sandbox is paused,
// and ends there when it is killed. A command's processes are one group, which
// signals reach as a whole. Without a terminal, processes that outlive the lead
// process live on in the sandbox; with one, the terminal hangs up on them.
//
// The limits hold: compute.pids counts processes; compute.disk what files hold
// beyond the image; compute.memory what programs take by system.Process.Alloc,
// such as the blocks of dd, what sort and tail keep, and what the shell
// substitutes. Who takes more is killed, as by Linux.
//
// # What is kept
//
// With a state_dir the vendor's objects are files there, replaced atomically, so
// that a plugin which is killed at any moment loses nothing but the programs
// that ran in it. What a program writes is stored when it closes the file.
// Therefore pause keeps disk, memory and processes while the plugin lives, and
// after a restart of the plugin such a sandbox says that only its disk is left;
// snapshots and forks keep disk.
//
// Latency and faults are injected through settings; see Faults.
//
// # Concurrency
//
// The cloud's mutex guards all that is stored, and the trees; a process's its
// signals; a command's its members; a pipe's and a terminal's what they hold.
// They are taken in this order, but no two of the last four together.
package fake
