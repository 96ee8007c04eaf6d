// Package seal encrypts small secrets that the broker has to store and to read
// again, such as those that sign messages. Whoever has the database alone, or a copy
// of it, does not have them.
//
// What is sealed says which key opens it, and is bound to what it is the secret of:
// it cannot be put into another row. Keys are replaced by making a new one the
// newest and keeping the one before until nothing is sealed with that any more.
//
// Keys are safe for concurrent use. No error holds a key or a secret.
//
//	keys, err := seal.New(newest, before)
//	stored := keys.Seal(secret, "webhook "+id)
//	secret, err := keys.Open(stored, "webhook "+id)
package seal
