// Package server is a broker as a process: it puts the store, the plugin host,
// the service and the API together, owns the listeners, and ends them in order.
//
// One server runs per state folder; a lock file sees to that. A server that was
// started on demand ends when nobody needed it for a while: no API call, no open
// stream, and no sandbox that only a broker would end or pause in time. Sandboxes
// live on without it.
//
// Readiness is the socket: it accepts connections when, and only when, the API
// answers. The package reads no flags and no environment.
package server
