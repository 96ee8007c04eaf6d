package price_test

import (
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/broker/price"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

func TestEstimate(t *testing.T) {
	book := &price.Book{
		Currency: "USD", Basis: brokerv1.PriceBasis_PRICE_BASIS_USAGE_DEPENDENT,
		CPU: 50_400_000, Memory: 16_200_000, Disk: 108_000, Start: 1000, PausedDisk: 100_000, GPU: map[string]int64{"H100": 3_950_000_000},
	}
	for _, tc := range []struct {
		name string
		book *price.Book
		has  price.Amounts
		want *brokerv1.Price
	}{
		{"no book", nil, price.Amounts{CPUMillis: 1000}, nil},
		{"free of charge", &price.Book{Currency: "EUR"}, price.Amounts{}, &brokerv1.Price{Currency: "EUR"}},
		{"nobody says how much memory", book, price.Amounts{CPUMillis: 1000, DiskBytes: gib}, nil},
		{"nobody says how much disk", book, price.Amounts{CPUMillis: 1000, MemoryBytes: gib}, nil},
		{"all", book, price.Amounts{CPUMillis: 500, MemoryBytes: 512 * mib, DiskBytes: 10 * gib}, &brokerv1.Price{
			Currency: "USD", Basis: book.Basis, StartMicros: 1000,
			RunningNanosPerHour: 25_200_000 + 8_100_000 + 1_080_000, PausedNanosPerHour: 1_000_000,
		}},
		{"a GPU", book, price.Amounts{CPUMillis: 1000, MemoryBytes: gib, DiskBytes: gib, GPUs: 2, GPU: "H100"}, &brokerv1.Price{
			Currency: "USD", Basis: book.Basis, StartMicros: 1000,
			RunningNanosPerHour: 50_400_000 + 16_200_000 + 108_000 + 7_900_000_000, PausedNanosPerHour: 100_000,
		}},
		{"a GPU without a price", book, price.Amounts{CPUMillis: 1000, MemoryBytes: gib, DiskBytes: gib, GPUs: 1, GPU: "T4"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.book.Estimate(tc.has), protocmp.Transform()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestCount: what a request says wins over what is assumed.
func TestCount(t *testing.T) {
	assumed := price.Amounts{CPUMillis: 2000, MemoryBytes: gib, DiskBytes: 5 * gib}
	if diff := cmp.Diff(assumed, price.Count(nil, assumed)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	spec := &providerv1.SandboxSpec{Resources: &providerv1.Resources{CpuMillis: 250, DiskBytes: mib, Gpu: &providerv1.Gpu{Kind: "T4"}}}
	want := price.Amounts{CPUMillis: 250, MemoryBytes: gib, DiskBytes: mib, GPUs: 1, GPU: "T4"}
	if diff := cmp.Diff(want, price.Count(spec, assumed)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestDecimals(t *testing.T) {
	for _, tc := range []struct {
		text   string
		parse  func(string) (int64, error)
		want   int64
		refuse string
	}{
		{"12.5", price.ParseMicros, 12_500_000, ""},
		{"0", price.ParseMicros, 0, ""},
		{"0.000001", price.ParseMicros, 1, ""},
		{"0.0504", price.ParseHourly, 50_400_000, ""},
		{"0.0000131", price.ParseSecondly, 47_160_000, ""},
		{"0.00000000001", price.ParseSecondly, 36, ""},
		{"999999.999999999", price.ParseHourly, 999_999_999_999_999, ""},
		{"", price.ParseMicros, 0, "is not an amount"},
		{"-1", price.ParseMicros, 0, "is not an amount"},
		{"1.", price.ParseMicros, 0, "is not an amount"},
		{".5", price.ParseMicros, 0, "is not an amount"},
		{"1e3", price.ParseMicros, 0, "is not an amount"},
		{"1,5", price.ParseMicros, 0, "is not an amount"},
		{"NaN", price.ParseMicros, 0, "is not an amount"},
		{"0.0000001", price.ParseMicros, 0, "write at most 6"},
		{"0.0000000001", price.ParseHourly, 0, "write at most 9"},
		{"0.000000000001", price.ParseSecondly, 0, "write at most 11"},
		{"1000000", price.ParseHourly, 0, "too much"},
		{"99999999999999999999", price.ParseHourly, 0, "too much"},
	} {
		got, err := tc.parse(tc.text)
		if tc.refuse == "" && (err != nil || got != tc.want) {
			t.Errorf("%q is %d, %v; want %d", tc.text, got, err, tc.want)
		}
		if tc.refuse != "" && (err == nil || !strings.Contains(err.Error(), tc.refuse)) {
			t.Errorf("%q is %d, %v; want a refusal with %q", tc.text, got, err, tc.refuse)
		}
	}
	for n, want := range map[int64]string{0: "0.00", 5: "0.000005", 1_230_000: "1.23", -2_000_001: "-2.000001", 123_456_700_000: "123456.70"} {
		if got := price.FormatMicros(n); got != want {
			t.Errorf("%d is written %q, want %q", n, got, want)
		}
	}
}

// TestFormatIsParsed: what is written is read back as it was.
func TestFormatIsParsed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 999_999_999_999).Draw(t, "n")
		if back, err := price.ParseMicros(price.FormatMicros(n)); err != nil || back != n {
			t.Fatalf("%d micros became %d, %v", n, back, err)
		}
		if back, err := price.ParseHourly(price.FormatNanos(n)); err != nil || back != n {
			t.Fatalf("%d nanos became %d, %v", n, back, err)
		}
	})
}

// TestScale compares with numbers of any size.
func TestScale(t *testing.T) {
	most := big.NewInt(math.MaxInt64)
	rapid.Check(t, func(t *rapid.T) {
		n, by := rapid.Int64Min(0).Draw(t, "n"), rapid.Int64Min(0).Draw(t, "by")
		per := rapid.Int64Min(1).Draw(t, "per")
		want := new(big.Int).Mul(big.NewInt(n), big.NewInt(by))
		want.Add(want, big.NewInt(per/2)).Div(want, big.NewInt(per))
		if want.Cmp(most) > 0 {
			want = most
		}
		if got := price.Scale(n, by, per); got != want.Int64() {
			t.Fatalf("%d x %d / %d is %d, want %s", n, by, per, got, want)
		}
	})
}
