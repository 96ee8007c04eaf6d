// Package files reads and changes files in sandboxes whose vendor can do no more than
// to run a program, to write a file and to read one. What vendors have of files follows
// links, says nothing of why it refuses, or does not replace a file as a whole.
//
// A small program inside the sandbox does one thing and says what came of it: see
// filecalls.go. What a vendor does for it is the interface Place. A Sandbox has a
// method for each of the contract's calls; a driver of package sdk embeds Sandboxes, which
// passes them on.
//
// Everything is safe for concurrent use.
package files
