// Package guestagent makes a program of its own of the agent that is process 1 of
// every guest. Unlike package runsc, it has nothing else in it: no gVisor, and
// nothing that is another with each build of the provider.
package guestagent

import _ "github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/agent" // serves before main, as process 1 of a guest

// Usage is what the program says to anyone but a guest, of which it never reaches
// main.
const Usage = "sandbar-guest-agent is the first process inside of a sandbox on this machine; sandbar-provider-local starts it there."
