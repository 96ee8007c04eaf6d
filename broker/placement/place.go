package placement

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/price"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Policy is what the configuration says about a provider.
type Policy struct {
	// Weight in hundredths; 0: chosen only when it is named.
	Weight int
	Labels map[string]string
	// Region is where all its sandboxes are; empty: nobody said.
	Region string
	// Book is its price book; nil: its prices are unknown.
	Book *price.Book
	// Assumed is what its sandboxes have whose request does not say.
	Assumed price.Amounts
}

// DefaultWeight is 1.
const DefaultWeight = 100

// Candidate is a provider as it is now.
type Candidate struct {
	Name string
	Policy
	// Default is chosen among equals.
	Default bool
	// Described is what it declares; nil: it never spoke.
	Described *providerv1.DescribeResponse
	// NotReady says why it cannot be asked now, or is empty.
	NotReady string
	// Volumes are the names of its volumes; of account only if the requirements name
	// some and no provider.
	Volumes []string
	// Live counts its sandboxes.
	Live     int
	Measured Measurement
	// Probing is true while a creation finds out whether a half-open circuit can be
	// closed.
	Probing bool
}

// The parts of a score fall to a half with these.
const (
	halfSpeed  = time.Second
	halfSpread = 100
)

// Place ranks the candidates. The answer holds each of them once: those that
// could be chosen first, the best before the others, then the rest as given.
// Equals are ranked as given too, but the default before the others. What a rule
// denies cannot be chosen, whatever its weight.
func Place(req Requirements, candidates []Candidate, now time.Time) *brokerv1.Placement {
	var ranked, out []*brokerv1.PlacementCandidate
	isDefault := make(map[string]bool, 1)
	for _, c := range candidates {
		rulings := judge(req, c, now)
		pc := &brokerv1.PlacementCandidate{Provider: c.Name, Obstacles: obstacles(req, c, rulings, now), Price: estimate(req, c)}
		isDefault[c.Name] = c.Default
		if len(pc.GetObstacles()) > 0 {
			out = append(out, pc)
			continue
		}
		pc.Score, pc.Adjustments = score(c, rulings, now), adjustments(rulings)
		ranked = append(ranked, pc)
	}
	slices.SortStableFunc(ranked, func(a, b *brokerv1.PlacementCandidate) int {
		return cmp.Or(cmp.Compare(b.GetScore().GetTotal(), a.GetScore().GetTotal()), -compareBool(isDefault[a.GetProvider()], isDefault[b.GetProvider()]))
	})
	p := &brokerv1.Placement{DecidedAt: timestamppb.New(now), Candidates: slices.Concat(ranked, out)}
	if len(ranked) > 0 {
		p.Provider = ranked[0].GetProvider()
	}
	return p
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

func score(c Candidate, rulings []Ruling, now time.Time) *brokerv1.PlacementScore {
	m := c.Measured
	latency, rate := m.Latency(now), m.FailureRate(now)
	preference, half := moved(rulings)
	s := &brokerv1.PlacementScore{
		Weight:      float64(c.Weight) / DefaultWeight,
		Preference:  preference,
		Speed:       1 / (1 + latency.Seconds()/halfSpeed.Seconds()),
		Reliability: 1 - rate,
		Spread:      1 / (1 + float64(c.Live)/float64(half)),
		Latency:     durationpb.New(latency), FailureRate: rate, Samples: m.Samples(now),
		Sandboxes: int64(c.Live), Probing: m.Circuit(now) == HalfOpen,
	}
	s.Total = s.GetWeight() * s.GetPreference() * s.GetSpeed() * s.GetReliability() * s.GetSpread()
	return s
}
