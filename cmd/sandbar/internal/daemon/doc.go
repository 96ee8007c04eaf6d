// Package daemon is the per-user server that the CLI starts when there is none:
// where its socket is, how exactly one is started however many CLIs ask at
// once, and what is known about it without asking it.
//
// Folder layout, mode 0700 and owned by the user:
//
//	sandbar.sock   where the server listens
//	start.lock     held by the CLI that starts a server
//	server.lock    held by the server as long as it lives
//	server.json    pid, version and start of the server
//	server.log     what the server and its crashes said; one older copy
//
// The starting CLI waits on a pipe that the server inherits: "ready" on it means
// the socket answers, its end without a word means that the server died.
package daemon
