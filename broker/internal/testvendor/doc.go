// Package testvendor is a provider in memory for the broker's own tests: it
// keeps the contract in the parts that the broker relies on, counts what it has,
// and fails, hangs or loses answers where a test tells it to.
//
// It shares no code with the fake provider or the SDK, so that the broker is
// tested against a second reading of the contract.
package testvendor
