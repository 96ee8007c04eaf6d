// Package apitest is an in-memory broker for tests of the CLI. It keeps
// sandboxes as records and runs their commands as processes of this machine, so
// that streams, signals, terminals and exit codes are real ones. It isolates
// nothing and is linked into tests only.
package apitest
