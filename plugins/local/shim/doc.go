// Package shim is the process that holds one local sandbox. The plugin starts a
// shim, tells it by a Boot message what to make or restore, and from then on
// talks to it over a Unix socket in the sandbox's folder, in the provider
// contract itself: the shim serves it for its one sandbox.
//
//	<sandbox>/record.json   the sandbox's record (package record)
//	<sandbox>/lock          locked by the shim as long as it lives
//	<sandbox>/bootstrap.json  how to find and trust a running shim
//	<sandbox>/shim.sock     its socket
//	<sandbox>/shim.log      what it logged, cut at a bound
//	<sandbox>/private/      covered by the shim's own memory file system
//	<sandbox>/disk/         what the guest writes, in files without names
//	<sandbox>/checkpoint/   the guest, while it is paused
//
// A shim has a session, and namespaces, of its own: it outlives the plugin and
// the broker. Whoever kills it ends the sandbox, and nothing else is left, since
// it is process 1 of the sandbox's pid namespace and its mounts are private.
//
// Whether a shim lives is asked of the lock, never of a process id: the lock is
// held by an open file that only the shim has, so it cannot be mistaken for
// another process's. While a shim lives it alone writes the record; otherwise
// the plugin that holds the store does.
package shim
