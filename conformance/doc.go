// Package conformance tests whether a sandbox provider keeps the contract in
// docs/spec, and writes a report that says so.
//
// A vendor uses it from go test, against the plugin binary or against the driver
// in the test's own process:
//
//	func TestConformance(t *testing.T) {
//		conformance.Test(t, conformance.Binary("bin/sandbar-provider-example"), conformance.Options{})
//	}
//
// and everybody else as the command `sandbar conformance run`. Both are Run: it
// opens the target, runs the cases that apply, each in a goroutine of its own
// with a budget, removes what they made, and returns a report.Report.
//
// What runs is the same for every provider. What applies depends on what the
// plugin declares, and a capability is tested in both directions: declared, it
// must work; not declared, its use must be refused.
//
// The cases, the engine and the mutants that prove each case able to fail are
// internal to the module. What this package and package report export is what
// vendors may rely on.
package conformance
