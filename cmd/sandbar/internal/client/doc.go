// Package client is the CLI's connection to a broker: where it is, how to talk
// to it, and how its errors read.
//
// Every error that leaves a Client is a *fault.Error, io.EOF at the end of a
// stream, or the context's error; callers never see a Connect error. A Client is
// safe for concurrent use and owns its idle connections until Close.
package client
