// Package mutant proves that every case can fail: each mutant is the reference
// provider with one bug in it, and names the case that must find the bug.
//
// There are three kinds. A driver mutant wraps the reference driver. A wire mutant
// is an interceptor around its server: it changes what is said, and is the only
// way to break what the SDK does for every driver. A process mutant breaks the
// program around the driver, and runs as a real plugin process.
//
// A case without a mutant fails the tests of this package: whoever adds a case
// adds the bug that it catches.
package mutant
