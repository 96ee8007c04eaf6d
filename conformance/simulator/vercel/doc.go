// Package vercel simulates the part of Vercel's REST API that is about sandboxes,
// so that the plugin, and the vendor's own clients, can be tried without an account.
// Every command, file and snapshot is real: it is a guest's, which is a sandbox of a
// provider that is given to it.
//
// # Sources
//
// Each behaviour says in a comment where it is from:
//
//	[S]  the vendor's own client, github.com/vercel/sandbox: packages/vercel-sandbox
//	     (api-client.ts, validators.ts, sandbox.ts)
//	[M]  the vendor's own mock server, in the same repository: packages/vercel-sandbox-mock
//	[D]  the vendor's documentation, vercel.com/docs/vercel-sandbox and /docs/rest-api
//	[I]  inferred: nothing says it, and something had to be chosen. The plugin must
//	     not depend on it, and tests say where it could.
//
// # What it does not do
//
// It says 501 with code not_simulated, and never anything made up, to drives, the
// snapshot tree, the interactive terminal and sources of git and tarballs. Nothing
// leaves a guest, whatever the network policy says: a policy is checked, kept and
// shown, and deny-all is the one that is enforced; a response to a request with
// another carries the header X-Simulator-Network: closed. Commands run as the
// guest's default user, so that sudo changes nothing. Every managed image and runtime
// is the guests' own default file system.
// A port's address is below vercel.run, and leads to the guest for who asks the simulator
// for that host.
//
// # Faults
//
// Below /_simulator, without a token: see faults.Admin.
package vercel
