package placement_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandbar-dev/sandbar/broker/placement"
	"github.com/sandbar-dev/sandbar/broker/price"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestMaxPrice(t *testing.T) {
	priced := func(b *price.Book) placement.Candidate {
		return candidate("a", func(c *placement.Candidate) {
			c.Described, c.Book, c.Assumed = with("compute.cpu"), b, price.Amounts{CPUMillis: 1000}
		})
	}
	book := &price.Book{Currency: "USD", CPU: 40_000_000}
	most := func(currency string, nanos int64, unknown bool) *brokerv1.MaxPrice {
		return &brokerv1.MaxPrice{Currency: currency, NanosPerHour: nanos, AllowUnknown: unknown}
	}
	for _, tc := range []struct {
		name  string
		most  *brokerv1.MaxPrice
		cpu   int64
		at    placement.Candidate
		named bool
		want  []string
		costs int64
	}{
		{name: "no limit", cpu: 2000, at: priced(book), costs: 80_000_000},
		{name: "exactly", most: most("USD", 80_000_000, false), cpu: 2000, at: priced(book), costs: 80_000_000},
		{name: "as assumed", most: most("USD", 40_000_000, false), at: priced(book), costs: 40_000_000},
		{
			name: "more", most: most("USD", 79_999_999, true), cpu: 2000, at: priced(book), costs: 80_000_000,
			want: []string{`PRICE: max_price is "0.079999999 USD/h": it costs 0.08 USD/h there`},
		},
		{
			name: "more, named", most: most("USD", 1, false), at: priced(book), costs: 40_000_000, named: true,
			want: []string{`PRICE: max_price is "0.000000001 USD/h": it costs 0.04 USD/h there`},
		},
		{name: "no book", most: most("USD", 1, false), at: priced(nil), want: []string{`PRICE: max_price is "0.000000001 USD/h": its price is unknown, it has no price book`}},
		{name: "no book, allowed", most: most("USD", 1, true), at: priced(nil)},
		{
			name: "another currency", most: most("EUR", 90_000_000, false), at: priced(book), costs: 40_000_000,
			want: []string{`PRICE: max_price is "0.09 EUR/h": its price is in USD`},
		},
		{name: "another currency, allowed", most: most("EUR", 1, true), at: priced(book), costs: 40_000_000},
		{
			name: "nobody says how much", most: most("USD", 90_000_000, false), at: priced(&price.Book{Currency: "USD", Memory: 1}),
			want: []string{`PRICE: max_price is "0.09 USD/h": its price is unknown, because its price book does not cover what is asked for, or the amount is not said`},
		},
		{name: "free of charge", most: most("USD", 1, false), cpu: 9000, at: priced(&price.Book{Currency: "USD"})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := &brokerv1.CreateSandboxRequest{MaxPrice: tc.most, Spec: &providerv1.SandboxSpec{Resources: &providerv1.Resources{CpuMillis: tc.cpu}}}
			if tc.named {
				req.Provider = "a"
			}
			got := placement.Place(placement.Derive(req, 0), []placement.Candidate{tc.at}, start).GetCandidates()[0]
			if diff := cmp.Diff(tc.want, messages(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if n := got.GetPrice().GetRunningNanosPerHour(); n != tc.costs {
				t.Errorf("it costs %d, want %d", n, tc.costs)
			}
			for _, o := range got.GetObstacles() {
				if o.GetRule() != brokerv1.PlacementRule_PLACEMENT_RULE_PRICE || o.GetField() != "max_price" {
					t.Errorf("the obstacle is %v", o)
				}
			}
		})
	}
}
