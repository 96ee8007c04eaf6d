// Package state is what the broker remembers: sandboxes, snapshots and the
// requests that made them. It defines the records and the Store interface;
// package sqlite implements it and package storetest is the suite every
// implementation passes.
//
// A record holds the messages of the public API and of the provider contract as
// they are, beside what is the broker's own. Reads return copies that the caller
// owns. Writes are optimistic: UpdateSandbox succeeds for one of several writers
// that read the same version, and the others get ErrConflict.
package state
