// Package unprivileged runs the tests of a package once more as an ordinary user
// of the machine, for what must work without root: tests that root runs prove
// nothing about it.
//
// It is for tests alone, which call Again in a test of their own.
package unprivileged
