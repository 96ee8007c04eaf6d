// Package pattern has regular expressions that are compiled by their first use.
//
// A package that compiles its patterns when it is initialised makes every
// program that links it pay for them, in each of its processes. Most processes
// here are short, or one of many (a command line, a plugin, a sandbox's own
// process), and use few patterns or none.
package pattern

import (
	"regexp"
	"sync"
)

// Lazy returns a function that returns the compiled expression. Its first call
// panics if the expression is wrong.
func Lazy(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}
