// Package forward carries TCP connections of this machine to a port inside a
// sandbox, one tunnel for each connection. Serve owns every connection it
// accepted and has closed all of them when it returns.
package forward
