// Package upstream is what providers need who are clients of a vendor's HTTP API: a
// client that says whether a call that failed can have done something, notes of what
// was sent and not answered, and the words of our contract for what a vendor says.
//
// A Client never repeats a call: whether that is safe is for the caller to say, who
// knows the idempotency key. It follows no redirect, because the token would go
// along. An answer that is no success is an *Error; a call that got no answer is a
// *LostError. No error holds the token.
//
// Everything is safe for concurrent use.
package upstream
