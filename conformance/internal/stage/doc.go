// Package stage sets the scene for conformance cases: sandboxes, commands in
// them, their streams, files, and the checks that belong to every answer.
//
// Its functions end the case when the subject breaks the contract on the way, so
// that a case reads as the one thing it is about. The client of the exec protocol
// here is the suite's own on purpose: it checks the protocol's promises (Opened
// first, offsets without a gap, Exit before Done, Done last) in every case.
package stage
