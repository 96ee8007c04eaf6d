// Package terminal is the user's terminal: whether there is one, its size, raw
// mode and its end, and input that can be abandoned.
//
// Raw mode is undone exactly once, whoever asks first: the deferred call of the
// command, or the handler of a signal.
package terminal
