package placement_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/broker/placement"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

var pool = []string{"image.oci", "image.host", "compute.memory:max=1000", "!compute.pids", "compute.pids", "pause", "pause.disk", "placement.region", "sandbox.hostname"}

func drawMeasurement(t *rapid.T) placement.Measurement {
	var m placement.Measurement
	at := start
	for range rapid.IntRange(0, 8).Draw(t, "events") {
		at = at.Add(-time.Duration(rapid.IntRange(0, 600).Draw(t, "seconds")) * time.Second)
	}
	for ; at.Before(start); at = at.Add(time.Duration(rapid.IntRange(1, 600).Draw(t, "pause")) * time.Second) {
		switch rapid.IntRange(0, 4).Draw(t, "event") {
		case 0:
			m = m.Throttled(at, time.Duration(rapid.IntRange(0, 900).Draw(t, "wait"))*time.Second)
		case 1, 2:
			m = m.Failed(at)
		default:
			m = m.Succeeded(at, time.Duration(rapid.IntRange(0, 9000).Draw(t, "took"))*time.Millisecond)
		}
	}
	return m
}

func drawCandidate(t *rapid.T, name string) placement.Candidate {
	c := placement.Candidate{
		Name: name, Live: rapid.IntRange(0, 500).Draw(t, "live"), Measured: drawMeasurement(t),
		Default: rapid.Bool().Draw(t, "default"), Probing: rapid.Bool().Draw(t, "probing"),
		Policy: placement.Policy{
			Weight: rapid.SampledFrom([]int{0, 50, 100, 100, 100, 200}).Draw(t, "weight"),
			Region: rapid.SampledFrom([]string{"", "", "eu", "us"}).Draw(t, "region"),
			Labels: map[string]string{"tier": rapid.SampledFrom([]string{"paid", "free"}).Draw(t, "tier")},
		},
	}
	if rapid.IntRange(0, 9).Draw(t, "speaks") > 0 {
		c.Described = with(rapid.SliceOfNDistinct(rapid.SampledFrom(pool), 4, len(pool), rapid.ID).Draw(t, "capabilities")...)
	}
	if rapid.IntRange(0, 9).Draw(t, "ready") == 0 {
		c.NotReady = "it crashed"
	}
	return c
}

func drawCandidates(t *rapid.T) []placement.Candidate {
	var out []placement.Candidate
	for i := range rapid.IntRange(1, 6).Draw(t, "candidates") {
		out = append(out, drawCandidate(t, fmt.Sprintf("p%d", i)))
	}
	return out
}

func drawRequirements(t *rapid.T) placement.Requirements {
	req := &brokerv1.CreateSandboxRequest{Spec: &providerv1.SandboxSpec{
		Region: rapid.SampledFrom([]string{"", "", "eu"}).Draw(t, "asked region"),
	}}
	if rapid.Bool().Draw(t, "image") {
		req.Spec.Image = &providerv1.Image{Source: &providerv1.Image_Oci{Oci: "debian"}}
	}
	if rapid.Bool().Draw(t, "limits") {
		req.Spec.Resources = &providerv1.Resources{MemoryBytes: rapid.Int64Range(1, 2000).Draw(t, "memory")}
	}
	if rapid.IntRange(0, 3).Draw(t, "labels") == 0 {
		req.ProviderLabels = map[string]string{"tier": "paid"}
	}
	if rapid.IntRange(0, 5).Draw(t, "named") == 0 {
		req.Provider = "p0"
	}
	return placement.Derive(req, 0)
}

// TestEveryCandidateIsExplainedOnce, and what is ruled out is never chosen.
func TestEveryCandidateIsExplainedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		candidates, req := drawCandidates(t), drawRequirements(t)
		p := placement.Place(req, candidates, start)
		seen := map[string]int{}
		best := ""
		for _, c := range p.GetCandidates() {
			seen[c.GetProvider()]++
			if out := len(c.GetObstacles()) > 0; out == (c.GetScore() != nil) {
				t.Fatalf("%s has obstacles or a score, and not both: %v", c.GetProvider(), c)
			} else if !out && best == "" {
				best = c.GetProvider()
			}
			for _, o := range c.GetObstacles() {
				if o.GetRule() == 0 || o.GetMessage() == "" {
					t.Fatalf("%s is ruled out without a reason: %v", c.GetProvider(), o)
				}
			}
		}
		for _, c := range candidates {
			if seen[c.Name] != 1 {
				t.Fatalf("%s is explained %d times", c.Name, seen[c.Name])
			}
		}
		if p.GetProvider() != best || len(p.GetCandidates()) != len(candidates) {
			t.Fatalf("%q is chosen among %v", p.GetProvider(), p.GetCandidates())
		}
		if again := placement.Place(req, candidates, start); !proto.Equal(p, again) {
			t.Fatalf("the same question again is answered with %v, not %v", again, p)
		}
	})
}

func TestTheRuledOutChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		candidates, req := drawCandidates(t), drawRequirements(t)
		more := drawCandidate(t, "new")
		if alone := placement.Place(req, []placement.Candidate{more}, start); alone.GetProvider() != "" {
			more.Weight = 0 // ruled out, unless it is named, and p0 alone ever is
		}
		before := placement.Place(req, candidates, start)
		at := rapid.IntRange(0, len(candidates)).Draw(t, "place")
		after := placement.Place(req, slices.Insert(slices.Clone(candidates), at, more), start)
		if before.GetProvider() != after.GetProvider() {
			t.Fatalf("%q was chosen, and %q with one more that is ruled out", before.GetProvider(), after.GetProvider())
		}
	})
}

// total is the score of a candidate with a measurement and nothing against it.
func total(m placement.Measurement, at time.Time) float64 {
	m.OpenUntil, m.CoolUntil = time.Time{}, time.Time{}
	p := placement.Place(placement.Requirements{}, []placement.Candidate{candidate("a", func(c *placement.Candidate) { c.Measured = m })}, at)
	return p.GetCandidates()[0].GetScore().GetTotal()
}

func TestFailuresCostAndAreForgotten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMeasurement(t)
		before := total(m, start)
		worse := m.Failed(start)
		if got := total(worse, start); got >= before {
			t.Fatalf("a failure makes the score %v, it was %v", got, before)
		}
		rate := worse.FailureRate(start)
		for at := start; at.Before(start.Add(5 * time.Hour)); at = at.Add(time.Duration(rapid.IntRange(60, 3600).Draw(t, "later")) * time.Second) {
			if now := worse.FailureRate(at); now > rate {
				t.Fatalf("%v later the failure rate has grown to %v from %v", at.Sub(start), now, rate)
			} else {
				rate = now
			}
		}
		if rate := worse.FailureRate(start.Add(6 * time.Hour)); rate > 1e-6 {
			t.Fatalf("hours later the failure rate is still %v", rate)
		}
	})
}
