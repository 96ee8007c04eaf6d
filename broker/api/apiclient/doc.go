// Package apiclient speaks the public API to a broker: over its Unix socket, or
// over TCP with an API key. Every error it returns is a *fault.Error, the same
// one the broker made.
//
//	c := apiclient.Unix("/run/user/1000/sandbar/api.sock")
//	defer c.Close()
//	resp, err := c.CreateSandbox(ctx, connect.NewRequest(req))
//
// A Client is safe for concurrent use.
package apiclient
