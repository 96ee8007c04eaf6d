// Package load measures a broker from outside, with bounded load: how long it
// takes until a new sandbox has finished its first command (TTI), how often that
// works, how quick commands are, how fast output streams; and whether anything is
// left at the end.
//
// It knows a broker only as a Target, and owns every sandbox it makes: whatever
// ends a run, an interrupt too, they are removed and counted before Run returns.
// A Runner is used once. Its progress is told from one goroutine at a time.
package load
