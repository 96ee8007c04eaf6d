// Package value parses what people write after a flag: sizes, durations, CPU
// counts, mounts, environment files, copy paths. Each type implements
// encoding.TextUnmarshaler, and each error says what would have been right; the
// flag parser puts the flag's name before it.
package value
