// Package cli is the sandbar command: its grammar, its commands, its exit codes.
//
// A command takes everything it needs from the app it is given: streams, the
// environment, the connection to the broker. One goroutine reads signals for the
// life of the process; what a signal means is the running command's to say.
//
// Exit codes: run, exec and shell end with the command's own code, 128+n when a
// signal ended it, 123 when it ended and bytes of its output are missing, and 125
// when Sandbar itself failed, so that none can be taken for another. Everything else ends with 1 for a failure and 2 for wrong
// usage (conformance, whose codes are verdicts, with 3 for both), and every
// command with 128+n when a signal interrupted Sandbar.
package cli
