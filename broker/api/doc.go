// Package api serves the public API over HTTP: gRPC, gRPC-Web and JSON on one
// port, by Connect. It translates between the wire and broker.Service and has no
// behaviour of its own beyond that: authentication, limits, errors.
//
// Errors leave as the contract's status details (package fault); package
// apiclient turns them back. Handlers are safe for concurrent use and keep no
// goroutine beyond their request.
package api
