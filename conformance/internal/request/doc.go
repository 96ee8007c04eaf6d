// Package request makes requests for any RPC of the contract from its
// descriptors: one that is valid, and for each guard one that uses what it
// guards. An RPC, field or value that is added to the contract is therefore asked
// for without anybody writing a line here.
//
// It knows nothing of cases. Its functions keep no state and are safe for
// concurrent use.
package request
