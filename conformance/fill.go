package conformance

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	"github.com/sandbar-dev/sandbar/conformance/report"
)

// slowness is what a report says of Options.Slow: nothing if the times were the usual ones.
func slowness(slow int) int {
	if slow <= 1 {
		return 0
	}
	return slow
}

// newReport is a report without results.
func newReport(opts Options, about subject.About, kind subject.Kind) *report.Report {
	r := &report.Report{
		Schema: report.Schema,
		Suite:  report.Suite{Version: Version, ProtocolMinor: ProtocolMinor, SHA256: ownDigest()},
		Plugin: report.Plugin{
			Name: about.Name, Vendor: about.Vendor, Version: about.Version, SHA256: about.SHA256, Manifest: about.Manifest,
			Target: string(kind), Launcher: about.Launcher,
		},
		Environment: environment(),
		Run: report.Run{
			ID: newRunID(), Started: time.Now().UTC().Truncate(time.Millisecond), Seed: strconv.FormatUint(opts.Seed, 10),
			Parallel: opts.Parallel, Slow: slowness(opts.Slow), Profiles: selected(opts.Profiles), Patterns: list(opts.Cases),
		},
		KnownFailures: []report.KnownFailure{}, Measurements: []report.Measurement{}, Cases: []report.Case{},
	}
	for _, p := range engine.Profiles() {
		r.Profiles = append(r.Profiles, report.Profile{Name: string(p), Requires: list(p.Requires())})
	}
	for _, k := range opts.KnownFailures {
		r.KnownFailures = append(r.KnownFailures, report.KnownFailure{
			Case: k.Case, Expires: k.Expires.Format(time.DateOnly), Issue: k.Issue, Why: k.Why,
		})
	}
	return r
}

// selected are the profiles that were asked for, each once and in their order;
// none means all.
func selected(asked []string) []string {
	return slices.DeleteFunc(Profiles(), func(p string) bool { return len(asked) > 0 && !slices.Contains(asked, p) })
}

// list is a copy of a slice that is never null in JSON.
func list(s []string) []string { return append([]string{}, s...) }

// ownDigest is the SHA-256 of the program that runs the suite, or "" where the
// system does not show it.
func ownDigest() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
}

func environment() report.Environment {
	e := report.Environment{OS: runtime.GOOS, Arch: runtime.GOARCH, User: "ordinary"}
	if os.Geteuid() == 0 {
		e.User = "root"
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err == nil {
		e.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	return e
}

// fill puts results into a report and judges it.
func fill(r *report.Report, results []engine.Result, declared []string) {
	measured := map[string][]time.Duration{}
	for _, result := range results {
		r.Cases = append(r.Cases, caseOf(result))
		for name, all := range result.Measured {
			measured[name] = append(measured[name], all...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(measured)) {
		all := measured[name]
		slices.Sort(all)
		r.Measurements = append(r.Measurements, report.Measurement{
			Name: name, Count: len(all), P50MS: report.Millis(quantile(all, 50)), P95MS: report.Millis(quantile(all, 95)),
		})
	}
	r.Judge(declared)
}

// quantile is the nearest rank in sorted durations.
func quantile(sorted []time.Duration, percent int) time.Duration {
	rank := (len(sorted)*percent + 99) / 100
	return sorted[max(rank, 1)-1]
}

// caseOf is a result as reports have it.
func caseOf(result engine.Result) report.Case {
	c := result.Case
	out := report.Case{
		ID: c.ID, Title: c.Title, Profile: string(c.Profile), Level: string(c.Level()), Requirements: list(c.Requirements),
		Needs: list(c.Needs), Denies: c.Denies, Provisional: c.Provisional, Outcome: string(result.Outcome),
		Started: result.Started.UTC().Truncate(time.Millisecond), ElapsedMS: report.Millis(result.Elapsed),
		Problems: list(result.Problems), Steps: []report.Step{}, Calls: []report.Call{}, Stderr: result.Stderr,
	}
	if result.Outcome == engine.Skip {
		out.Skip = &report.Skipped{Reason: string(result.SkipReason), Detail: result.Detail}
	}
	for _, s := range result.Steps {
		out.Steps = append(out.Steps, report.Step{AtMS: report.Millis(s.At), Text: s.Text})
	}
	for _, call := range result.Calls {
		out.Calls = append(out.Calls, report.Call{
			Method: call.Method, TookMS: report.Millis(call.Took), Sent: list(call.Sent), Received: list(call.Received),
			Frames: call.Frames, Error: call.Error,
		})
	}
	return out
}
