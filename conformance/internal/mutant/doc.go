// Package mutant proves that every case can fail: each mutant is the reference
// provider with one bug in it, and names the case that must find the bug.
//
// There are four kinds. A driver mutant wraps the reference driver. A wire mutant
// is an interceptor around its server: it changes what is said, and is the way to
// break what the SDK does for every driver. A wrapping mutant stands between the
// suite and any provider, and uses the provider's own API to break what it did. A
// process mutant breaks the program around the driver, and runs as a real plugin
// process.
//
// A case without a mutant fails the tests of this package: whoever adds a case
// adds the bug that it catches.
package mutant
