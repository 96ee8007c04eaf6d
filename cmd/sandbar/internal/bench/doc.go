// Package bench measures Sandbar as its users meet it: the real binaries, the
// real sockets, with the baseline beside it in the same run. `make bench` writes
// docs/performance.md with it. The package holds the report; the measurements
// are a test, because they need the tests' way of taking down what they started.
package bench
