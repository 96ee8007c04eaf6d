// Package engine runs conformance cases: each in a goroutine of its own with a
// budget, against a subject, with everything it made recorded and removed.
//
// It is not package testing, for the sake of three things that testing cannot do:
// the suite is part of a program that people run without Go, a case that hangs is
// a failure of that case and not of the run, and the suite itself can be tested
// against providers that are wrong on purpose.
//
// The package knows nothing about reports and nothing about what cases do. It
// owns the goroutines of cases; a case that does not end when its context does is
// abandoned after a grace and counted as a failure.
package engine
