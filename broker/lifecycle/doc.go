// Package lifecycle is the state machine of one sandbox as the broker sees it:
// what a call, an answer, a lost answer or an observation makes of a sandbox, and
// what has to be done next.
//
// It is pure: no I/O, no clock, no goroutine. The service keeps a Status beside
// each sandbox, feeds it events with Step and carries out the actions. Values
// are safe to share.
//
// Three promises hold for every sequence of events, and property tests prove
// them: a sandbox that was made is never CREATING again; one that is gone never
// comes back; and a create is sent under one key only, because nothing but New
// asks for it.
//
//	next, actions, err := lifecycle.Step(status, lifecycle.AskPause(""))
package lifecycle
