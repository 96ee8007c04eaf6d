// Package metering integrates what sandboxes use from their changes of state: how
// long each ran and was paused, and what that took and cost.
//
// Nothing ticks. A Meter is what a sandbox is counted as and since when; each
// change of that makes Pieces, one for each day it touches, which are stored
// together with the change. What is between the last change and now is computed
// when somebody asks. So what is counted survives every crash that the state of
// the sandbox survives, and is counted once.
//
// A piece is the difference of two values of one function of time. So pieces add
// up to the whole exactly, wherever the whole is cut.
//
// The package is pure: no I/O, no clock, no goroutine. Values are safe to share.
//
//	next, pieces := meter.Step(metering.Paused, now, rate)
package metering
