// Package api is a client of the part of Daytona's API that is about sandboxes: the
// control API, and the toolbox, which is inside a sandbox and is reached through the
// vendor's proxy. docs/adr/0018-daytona.md says why it is our own; what the driver
// needs of it is the interface daytona.API, which an SDK could satisfy.
//
// Errors are those of package upstream. A Client is safe for concurrent use.
package api
