// Package placement chooses the provider for a new sandbox, and says why.
//
// Place is a pure function: requirements, candidates and the time go in, the
// ranked candidates come out, each with everything that rules it out or with the
// parts of its score. A Measurement is what is known about a provider from the
// creations it was asked for; it is a value that the caller keeps, and it takes
// the time as an argument too. So a choice can be repeated, tested and shown
// without being made.
//
// The package must not do I/O, read a clock or know a store. All of it is safe
// for concurrent use.
//
//	d := placement.Place(placement.Derive(req), candidates, time.Now())
//	best := d.GetProvider() // "" if every candidate is ruled out
package placement
