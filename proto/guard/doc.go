// Package guard reads the capability guards out of the contract's descriptors:
// which capability an RPC, a field or an enum value needs. It also holds the
// registry of capability ids (capabilities.txt).
//
// The SDK refuses undeclared use with it before a driver runs, the broker
// refuses before the network, and the conformance suite generates its negative
// cases from it. All functions are safe for concurrent use and keep no state
// beyond a cache by message type.
package guard
