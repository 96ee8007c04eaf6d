// Package supervisor decides when a plugin process is started, ended, waited for
// and given up on. It is a pure state machine: it reads no clock, starts nothing
// and knows no process. Its owner feeds it events with the time at which they
// happened, performs the actions it returns, and calls back when Wake says so.
//
//	Stopped → Starting → Configuring → Ready ⇄ Degraded
//	             ↑   any failure or exit ↓
//	             └─────────────────── Backoff, or Quarantined when it keeps happening
//
// At most one process is alive at any time: Launch is returned only after the
// Exited event of the previous one. A Machine is not safe for concurrent use.
package supervisor
