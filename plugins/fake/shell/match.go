package shell

import (
	"regexp"

	"mvdan.cc/sh/v3/pattern"
)

// match says whether text matches a pattern of the shell. A pattern that is none
// matches nothing.
func match(pat, text string, mode pattern.Mode) bool {
	expr, err := pattern.Regexp(pat, mode)
	if err != nil {
		return false
	}
	matcher, err := regexp.Compile(expr)
	return err == nil && matcher.MatchString(text)
}
