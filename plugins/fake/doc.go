// Package fake is the reference provider: a whole vendor in memory, with real
// semantics and no isolation, because nothing it runs comes from outside.
//
// Files, volumes, snapshots, forks, lifetimes, idempotency keys and limits
// behave as the contract says. Commands are a small set of programs written in
// Go (see Programs); argv[0] names one, with or without /bin/ or /usr/bin/.
//
// With a state_dir the vendor's objects are files there, replaced atomically, so
// that a plugin which is killed at any moment loses nothing but the programs
// that ran in it: they are goroutines. Therefore pause keeps disk, memory and
// processes while the plugin lives, and after a restart of the plugin such a
// sandbox says that only its disk is left; snapshots and forks keep disk.
//
// Latency and faults are injected through settings; see Faults.
package fake
