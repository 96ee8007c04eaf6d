// Package transfer carries the files of a sandbox to another one, on any provider, or
// into and out of a portable snapshot, and moves a sandbox: it makes another one,
// carries the files, proves that they arrived, and only then ends the first.
//
// It uses the public API alone, and streams: no file is held in memory, and no more
// than a digest of each is remembered. Files are read while the sandbox runs, so a
// move reads them again before it ends anything, and refuses if they changed.
//
// A Move is used by one goroutine. Whoever implements Sandboxes repeats calls that
// are safe to repeat.
package transfer
