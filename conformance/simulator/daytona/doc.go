// Package daytona simulates the part of Daytona's API that is about sandboxes, of the
// platform whose API is at /api (version 0): the control API and, on the same address
// below /toolbox, the toolbox. The plugin, and the vendor's own clients, can be tried
// without an account. Every command and file is real: it is a guest's, which is a
// sandbox of a provider that is given to it.
//
// # Sources
//
// Each behaviour says in a comment where it is from:
//
//	[S]  the vendor's clients and their specifications, github.com/daytona/clients:
//	     openapi-specs/api.json and toolbox.json, sdk-go
//	[O]  the vendor's last open server, github.com/daytonaio/daytona v0.190.0:
//	     apps/api/src/sandbox, apps/daemon/pkg; read, and nothing of it copied
//	[D]  the vendor's documentation, daytona.io/docs
//	[I]  inferred: nothing says it, and something had to be chosen. The plugin must
//	     not depend on it, and tests say where it could.
//
// # What it does not do
//
// It says 501 with code NOT_SIMULATED, and never anything made up, to what it does not
// have, among it snapshots, volumes, secrets, archives, resizing, terminals, code
// interpreters, input of a command, images to be built, and the socket that tells
// of changes of state, instead of which clients poll. Nothing leaves a guest, whatever
// a sandbox's network settings are: they are checked, kept and shown, and an answer about one
// that is not blocked carries the header X-Simulator-Network: closed. A session's
// commands run one after the other, each in a shell of its own: what one changes in
// its shell the next does not see. Commands run as the guest's default user. Every
// snapshot is the guests' own default file system. The listing, of which the vendor
// says that it is consistent eventually, is so at once. Previews are names below localhost,
// where guests have tunnels.
//
// # Faults
//
// Below /_simulator, without a key: see faults.Admin.
package daytona
