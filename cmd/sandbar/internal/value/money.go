package value

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/sandbar-dev/sandbar/broker/price"
)

// defaultCurrency is what an amount without one is in.
const defaultCurrency = "USD"

// Money is an amount such as 25, 0.50 or "100 EUR".
type Money struct {
	Micros   int64
	Currency string
}

// UnmarshalText parses an amount of more than nothing, in USD unless it says
// otherwise.
func (m *Money) UnmarshalText(text []byte) error {
	number, currency := splitCurrency(string(text))
	micros, err := price.ParseMicros(number)
	if err != nil || micros == 0 || !price.ValidCurrency(currency) {
		return fmt.Errorf("%q is not an amount of money; write one such as 25 or 0.50EUR, with at most 6 digits after the point", text)
	}
	*m = Money{micros, currency}
	return nil
}

// MaxPrice is a price for an hour such as 0.05/h or 0.05EUR/h.
type MaxPrice struct {
	NanosPerHour int64
	Currency     string
}

// UnmarshalText parses a price of more than nothing.
func (p *MaxPrice) UnmarshalText(text []byte) error {
	amount, hourly := strings.CutSuffix(string(text), "/h")
	number, currency := splitCurrency(amount)
	nanos, err := price.ParseHourly(number)
	if err != nil || !hourly || nanos == 0 || !price.ValidCurrency(currency) {
		return fmt.Errorf("%q is not a price for an hour; write one such as 0.05/h or 0.05EUR/h, with at most 9 digits after the point", text)
	}
	*p = MaxPrice{nanos, currency}
	return nil
}

func splitCurrency(text string) (number, currency string) {
	text = strings.TrimSpace(text)
	i := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if i < 0 {
		return text, defaultCurrency
	}
	return strings.TrimSpace(text[:i]), strings.TrimSpace(text[i:])
}

// Hours is a number of hours such as 100 or 1.5, of CPUs or of GiB, in seconds.
type Hours int64

// maxHours is a thousand CPUs over a century.
const maxHours = 1e9

// UnmarshalText parses a number of more than nothing, to the second.
func (h *Hours) UnmarshalText(text []byte) error {
	n, err := strconv.ParseFloat(string(text), 64)
	seconds := math.Round(n * 3600)
	if err != nil || !(seconds >= 1 && n <= maxHours) {
		return fmt.Errorf("%q is not a number of hours; write one such as 100 or 1.5", text)
	}
	*h = Hours(seconds)
	return nil
}
