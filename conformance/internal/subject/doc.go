// Package subject is what the suite runs against: a plugin binary under the
// broker's own plugin host, a driver in this process, or a broker with any
// provider behind it. All of them look like one connection that speaks the
// provider contract, so that a case does not know which it has.
//
// Every call goes through a Recorder, which gives it a deadline, remembers what
// was said, and knows afterwards what there is to remove, including what a lost
// answer or a failing case left behind.
package subject
