// Package completion answers a shell's question for what may come next. The
// answers are computed from the parser's own model, so a new flag completes
// without a line here; the scripts only carry question and answer.
package completion
