// Package session is the client's side of AttachExec: it reads a command's output
// and feeds its input over attachments that may break, and delivers every byte
// once, or says how many are missing.
//
// Ledger is the bookkeeping alone, without goroutines or I/O. Attachment drives
// it over a Transport, which is a stream of frames in whatever protocol:
//
//	a := session.New(open, session.Options{Stdout: out, Stderr: errs})
//	go copyInput(a) // a is an io.WriteCloser for stdin
//	result, err := a.Run(ctx, dial)
//
// A stream that ends without Done was lost, and says nothing about the command:
// Run attaches again where it was. Run never makes up an exit status.
//
// The package imports no I/O: neither files nor sockets nor an RPC library. Its
// types are safe for concurrent use, except Ledger.
package session
