// Package vercel is the provider that runs sandboxes at Vercel. How an operator
// uses it is docs/howto/use-vercel.md; docs/adr/0017-vercel.md says what was chosen
// and why.
//
// # What lives where
//
// A sandbox is one of the vendor's named sandboxes with one session, and persistent
// only while it is paused: see pause.go. Its name holds the idempotency key, so that
// the vendor itself makes each key's sandbox once: names are unique in a project. Its
// tags, of which there are five, hold the sandbox's id and a digest of the owner, by
// which it can be found, and everything else that must come back as it was given: see
// record. Nothing that is needed to serve a sandbox is in the plugin's memory.
//
// What has been sent and not been answered is noted in the plugin's state folder,
// before it is sent, until the vendor can no longer be at it: see upstream.Ledger.
//
// # Commands
//
// The vendor starts a command and streams its output as text, one exit code, and
// nothing in the other direction. It is not documented what happens to bytes that
// are no UTF-8, how a death by signal is told from an exit code, and who waits when
// nobody reads. The plugin depends on none of that: what it starts is a small
// program, the runner, which starts the command and tells of it in lines of ASCII:
// see package runner, which carries tunnels the same way. What is done to files a second
// program does: see package files. Terminals and attaching again after a restart of the
// plugin are not declared.
package vercel
