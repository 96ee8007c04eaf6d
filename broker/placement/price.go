package placement

import (
	"github.com/sandbar-dev/sandbar/broker/price"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// estimate returns what the sandbox would cost at a candidate; nil: unknown.
func estimate(req Requirements, c Candidate) *brokerv1.Price {
	return c.Book.Estimate(price.Count(req.Spec, c.Assumed))
}

// price compares with the most that the sandbox may cost. A price that nobody
// knows does not pass unless the request allows it: whoever names a limit wants to
// be sure of it.
func (f *finding) price(req Requirements, c Candidate) {
	if req.MaxPrice == nil {
		return
	}
	most := req.MaxPrice
	n := Need{Field: "max_price", Value: price.FormatNanos(most.GetNanosPerHour()) + " " + most.GetCurrency() + "/h"}
	p := estimate(req, c)
	switch {
	case p != nil && p.GetCurrency() == most.GetCurrency():
		if p.GetRunningNanosPerHour() > most.GetNanosPerHour() {
			f.add(brokerv1.PlacementRule_PLACEMENT_RULE_PRICE, n, "%s: it costs %s %s/h there", asked(n), price.FormatNanos(p.GetRunningNanosPerHour()), p.GetCurrency())
		}
	case most.GetAllowUnknown():
	case p != nil:
		f.add(brokerv1.PlacementRule_PLACEMENT_RULE_PRICE, n, "%s: its price is in %s", asked(n), p.GetCurrency())
	case c.Book == nil:
		f.add(brokerv1.PlacementRule_PLACEMENT_RULE_PRICE, n, "%s: its price is unknown, it has no price book", asked(n))
	default:
		f.add(brokerv1.PlacementRule_PLACEMENT_RULE_PRICE, n, "%s: its price is unknown, because its price book does not cover what is asked for, or the amount is not said", asked(n))
	}
}
