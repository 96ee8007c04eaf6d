// Package logring is a writer that never blocks and never fails: what the
// destination does not take in time is dropped, oldest first, and counted.
//
// A plugin logs through it, because standard error is a pipe whose reader may be
// slow, frozen or dead.
package logring
