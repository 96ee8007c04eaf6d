// Package batch makes streams over net/http's HTTP/2 cheap. There each flush of a
// handler, each read of a body and each write into one is frames of its own, which
// pass two or three goroutines and a system call at both ends; for a stream of
// 32 KiB messages that costs more than all else that happens to them.
//
// A stream through this package is written and read in batches: what comes while
// a batch is on its way is the next one. A message that comes alone is on its way
// at once, so nothing waits for company. At most bufferBytes wait in each
// direction of a stream; then the writer waits, as it would without the package.
//
// Handler is for servers, Transport for clients; each is of use without the other.
package batch

// bufferBytes bounds what waits to be written, and how much is read at once. Eight
// full frames make the cost of a batch small beside that of copying it.
const bufferBytes = 256 << 10
