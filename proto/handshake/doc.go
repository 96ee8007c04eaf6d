// Package handshake holds what a plugin and its host must agree on before the
// first call: the cookie, the protocol major, the limits and keepalive numbers
// that both ends of the connection set, and the manifest a plugin binary prints.
//
// It is the only thing outside the contract that both sides share, so that
// neither the broker imports the SDK nor the SDK the broker. It holds constants
// and pure functions.
package handshake
