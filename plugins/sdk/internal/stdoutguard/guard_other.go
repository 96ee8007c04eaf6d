//go:build !unix

package stdoutguard

// Handshake does nothing: descriptors cannot be redirected here.
func Handshake() {}
