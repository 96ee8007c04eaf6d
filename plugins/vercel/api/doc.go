// Package api is a client of the part of Vercel's REST API that is about
// sandboxes: plain HTTP, JSON, lines of JSON for streams, and tar.gz for files.
//
// The vendor has no Go SDK (docs/adr/0017-vercel.md says what was looked for), and
// the packages that it does have leave out what matters here, or are in another
// language. What the driver needs of it is the interface vercel.API, which a later
// SDK could satisfy.
//
// A Client never repeats a call: whether that is safe is for the caller to say, who
// knows the idempotency key. It follows no redirect, because the token would go
// along. An answer that is no success is an *Error; a call that got no answer is a
// *LostError, which says whether the vendor may have got the request. No error holds
// the token.
//
// A Client is safe for concurrent use.
package api
