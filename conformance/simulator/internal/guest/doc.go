// Package guest is what simulators of vendors run things in: sandboxes of any
// provider that speaks our own contract. What a simulator's client asks to be run is
// really run, in a guest: commands, files and snapshots are the guest's.
//
// A Fleet is all guests of one simulator, and a Guest is one of them. Neither
// remembers anything that matters beyond the simulator's life: Close deletes all
// guests, and each has an end of life of its own in case nobody does.
//
// Everything is safe for concurrent use.
package guest
