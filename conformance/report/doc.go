// Package report is what a conformance run leaves behind: one list of results,
// and everything that is derived from it.
//
// A Report is data. Judge derives the verdicts from the results, Seal binds all
// of it to a digest, Sign to a key, and the writers turn the one list into JSON,
// JUnit, Markdown, a page and a badge. Verify undoes none of it: it recomputes
// what can be recomputed and says in words what does not agree.
//
// The package knows nothing about how cases run and imports no case. All
// functions are pure but Verify, which reads the plugin's binary; nothing here
// starts a goroutine.
package report
