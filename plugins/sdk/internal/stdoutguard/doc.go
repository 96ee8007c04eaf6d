// Package stdoutguard keeps standard output clean for the handshake line.
//
// Importing it in a process that a host started as a plugin points file
// descriptor 1 at standard error during package initialisation, before any code
// that imports the SDK can print, and keeps the real one for Handshake. In any
// other process it does nothing.
package stdoutguard
