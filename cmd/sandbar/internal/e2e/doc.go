// Package e2e proves Sandbar's promises through its real binaries: the command,
// the broker that it starts on demand, the local provider's plugin, its shims and
// gVisor. It has tests only.
//
// Every test lives in a world: folders of its own for state, sockets, home and
// temporary files, and so a broker of its own. When a test ends, its world
// proves that nothing of it is left on the machine: no process, mount, network
// namespace, socket or sandbox folder.
//
// The tests run twice, as root and, by way of TestAsOrdinaryUser, as a user who
// has no name and no rights.
package e2e
