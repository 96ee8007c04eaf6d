// Package pool keeps things ready that take long to make, as many as were
// lately asked for.
//
// Its one goroutine makes them one at a time, and only while nobody is making
// anything else: whoever waits now comes before whoever may come. It knows
// nothing of what the things are.
package pool
