package conformance

import (
	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/report"
)

// Verify checks a report, as its file has it, against the plugin binary at a
// path: form, digest, verdicts, that no case is missing or altered, and that it
// is this binary that was tested. With a public key it also checks who signed.
// See report.Verify.
func Verify(raw []byte, plugin, publicKey string) (report.Verified, error) {
	opts := report.VerifyOptions{Plugin: plugin, Key: publicKey, Suite: Version}
	for _, c := range catalogue() {
		opts.Cases = append(opts.Cases, caseOf(engine.Result{Case: c}))
	}
	for _, p := range engine.Profiles() {
		opts.Profiles = append(opts.Profiles, report.Profile{Name: string(p), Requires: list(p.Requires())})
	}
	return report.Verify(raw, opts)
}
