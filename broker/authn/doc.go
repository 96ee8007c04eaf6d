// Package authn finds out who calls: by an API key that was made here, by one in
// the configuration, or by a token of an OpenID Connect issuer. It also keeps
// tenants and API keys. What a caller may do, package authz decides.
//
// A credential is read from the store at most once in RecheckInterval, so that a
// call costs a hash and a look into a map. This process knows at once what was
// revoked through it; another one that shares the store knows within that
// interval, and the streams it has open end then. Expiry is known everywhere.
//
// A Directory owns one goroutine until Close. All types are safe for concurrent
// use. No error and no log line holds a key or a token.
package authn
