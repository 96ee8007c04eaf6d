// Package shell is the shell of a fake sandbox: /bin/sh, which takes POSIX shell
// scripts, and /bin/bash, which takes Bash's syntax too.
//
// mvdan.cc/sh parses scripts and expands words. The commands are run here, by the
// system calls of package system alone: its own interpreter uses pipes and named
// pipes of the machine, looks for commands and sourced files there whatever
// handlers it is given, and knows neither process ids nor signals nor
// descriptors above 2.
//
// Every subshell, every part of a pipeline, every substitution and every
// external command is a process of its own, as on Unix.
//
// # Supported
//
// All commands of POSIX; redirections with any descriptor, here-documents and
// <<< >& &>; functions, local; set -aefnuxC and -o pipefail; trap for EXIT and
// every signal; background commands, wait, $! and kill; in Bash also arrays, [[
// ]], (( )), for (( )), brace and pattern expansion.
//
// # Not supported
//
// Refused with a message and exit code 2: job control (bg, fg, set -m), alias, fc,
// ulimit, select, coproc, process substitution, read -t, and the options of
// builtins that builtins.go does not list.
//
// With a terminal and no script the shell prompts, and an interrupt ends what runs
// but not the shell.
package shell
