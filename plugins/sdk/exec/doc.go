// Package exec runs commands for a provider: it keeps their output by offset,
// carries it to any number of attachments, feeds stdin exactly once, and says
// honestly how they ended.
//
// A Table holds the commands of one process. Each has a state, which is pure
// bookkeeping, and a session, which moves bytes between the driver's Process,
// the state, and attachments.
//
// # Retention and pace
//
// Of each stream the last Options.Retain bytes are kept and can be read again by
// offset. What is older is dropped when the room is needed, but under
// BACKPRESSURE never a byte that an attached reader of the stream has not
// acknowledged: the slowest attached reader sets the command's pace. A reader
// acknowledges with Ack, and by opening at an offset, everything before it.
// While no reader is attached, what no reader ever acknowledged is kept; when
// that fills the retention, the command blocks in write. Under DROP_OLDEST a
// command never blocks, and Done counts what an attachment missed.
//
// Small commands cost little: memory is taken in chunks as output arrives.
//
// # Input
//
// Bytes of stdin have offsets too. StdinAck.next says how far the command took
// them over; bytes sent again are ignored, a gap is refused. A client keeps
// within Options.StdinWindow of the last StdinAck.next. One that does not is
// slowed down by flow control, and as its acknowledgements are then stuck behind
// its own input, what it was sent counts as acknowledged meanwhile; so a command
// that echoes can never stand still for ever.
//
// # Ends
//
// Without a terminal a command has ended when its lead process has and both
// pipes are at their end, or when Options.Drain has passed in which the SDK
// waited for a descendant that holds a pipe; with a terminal, when the lead
// process has and what was still on its way has been read. An end that Wait
// cannot tell is state UNKNOWN, never exit code 0. Output that the driver failed
// to read ends attachments with OUTPUT_TRUNCATED instead of Done.
//
// Ended commands are kept for Options.KeepFor, at most Options.KeepFinished of
// them, and then answer EXEC_NOT_FOUND.
//
// # Concurrency
//
// Everything exported is safe for concurrent use. Lock order: Table, then
// session. No lock is held across I/O or a call into the driver. Table.Close
// ends every goroutine.
package exec
