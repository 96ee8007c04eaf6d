// Package exactlyonce proves, with real processes, that what a client asked for
// once is made once: a broker, its database, and fake vendors behind plugins,
// where requests and answers are lost, late or refused, plugins crash and freeze,
// and brokers are killed with SIGKILL at every step. It has tests only.
//
// The vendors' own listings are the truth. After each case a vendor has exactly
// what the broker lists, a repeated request gets what the first one got, and
// when all is deleted nothing is left.
//
// The matrix runs with every test run; -exactly.full adds what takes minutes.
// The long run is described in docs/exactly-once.md.
package exactlyonce
