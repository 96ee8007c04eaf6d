// Package api is a client of the part of Vercel's REST API that is about
// sandboxes: plain HTTP, JSON, lines of JSON for streams, and tar.gz for files.
//
// The vendor has no Go SDK (docs/adr/0017-vercel.md says what was looked for), and
// the packages that it does have leave out what matters here, or are in another
// language. What the driver needs of it is the interface vercel.API, which a later
// SDK could satisfy.
//
// Its errors are those of package upstream, whose client it is made of. A Client is
// safe for concurrent use.
package api
