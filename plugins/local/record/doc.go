// Package record is the local provider's truth on disk: which sandboxes,
// snapshots and volumes exist, who owns them, and which idempotency keys were
// spent on them. It plays the part of a vendor's database.
//
//	<dir>/lock                      held by the plugin process that serves dir
//	<dir>/keys/<key>.json           what a key was spent on, or that it is fenced
//	<dir>/sandboxes/<id>/record.json and everything else of that sandbox
//	<dir>/snapshots/<id>/record.json and the snapshot's image
//	<dir>/volumes/<owner>/<name>/record.json and data/
//
// A record is written to a temporary file, synced and renamed, so that a reader
// sees an old or a new one and never half of it. An object exists from the
// moment its record does; a folder without one is what a crash left behind, and
// Sweep removes it.
//
// All methods are safe for concurrent use. The package starts no process and
// knows nothing of gVisor.
package record
