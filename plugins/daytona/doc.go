// Package daytona is the provider that runs sandboxes at Daytona. How an operator
// uses it is docs/howto/use-daytona.md; docs/adr/0018-daytona.md says what was chosen
// and why.
//
// # What lives where
//
// The name of a sandbox holds the idempotency key, so that the vendor itself makes
// each key's sandbox once: names are unique in an organization. Its labels hold the
// sandbox's id and a digest of the owner, by which it can be found, and everything
// else that must come back as it was given: see record. Nothing that is needed to
// serve a sandbox is in the plugin's memory.
//
// What has been sent and not been answered is noted in the plugin's state folder,
// before it is sent, until the vendor can no longer be at it.
//
// # Commands
//
// The vendor gives a line to a shell, and has a log of what that prints: text in
// lines, without bytes of value 0, and one exit code. What is started is a runner, as
// package runner describes. Each command has a session of the vendor's of its own,
// with the command's id, which is removed when all has been said. A tunnel to a port is
// such a command. Terminals and attaching again after a restart of the plugin are not
// declared.
package daytona
