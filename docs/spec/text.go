// Package spec carries the contract's normative text, so that the conformance
// suite quotes in a failure what this very version of it demands.
package spec

import "embed"

// Files holds the Markdown files of this folder.
//
//go:embed *.md
var Files embed.FS
