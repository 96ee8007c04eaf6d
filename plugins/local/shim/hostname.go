package shim

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/sandbar-dev/sandbar/plugins/local/record"
)

// memberHostname is the host name inside a guest that is nobody's sandbox yet.
const memberHostname = "sandbox"

// hostname is the host name inside a sandbox: the one that was asked for, or one
// that no other sandbox gets.
func hostname(rec *record.Sandbox) string {
	if name := rec.Spec.GetHostname(); name != "" {
		return name
	}
	if id := rec.Sandbox.GetIdentity().GetSandboxId(); id != "" {
		return derivedHostname(id)
	}
	return memberHostname
}

const (
	// maxLabel is the longest label of a host name.
	maxLabel = 63
	// sumBytes of the id's sum tell ids apart that look alike as host names.
	sumBytes = 8
)

// derivedHostname makes a label of an id: "sbx_2abc" is "sbx-2abc". An id that
// cannot be read back from such a label gets a part of its sum besides, so that
// different ids never share one.
func derivedHostname(id string) string {
	prefix, rest, found := strings.Cut(id, "_")
	if !found {
		prefix, rest = "", id
	}
	if isPlain(rest) && (!found || isPlain(prefix)) && len(id) <= maxLabel {
		return strings.Replace(id, "_", "-", 1)
	}
	plain := strings.Map(func(r rune) rune {
		if r < 0x80 && isPlain(string(r)) {
			return r
		}
		return '-'
	}, strings.ToLower(id))
	sum := sha256.Sum256([]byte(id))
	end := "-" + hex.EncodeToString(sum[:sumBytes])
	return strings.Trim(plain[:min(len(plain), maxLabel-len(end))]+end, "-")
}

// isPlain says whether s has lower-case letters and digits only, and some.
func isPlain(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}
