package price

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// Places after the point that the units keep.
const (
	microPlaces = 6
	nanoPlaces  = 9
	// secondPlaces is as many as a price for a second can have, of which an hour's
	// is whole billionths: a hundredth of one, times 3600, is 36.
	secondPlaces   = 11
	secondsPerHour = 3600
)

// ParseMicros reads an amount such as 12.50 as millionths.
func ParseMicros(text string) (int64, error) { return parse(text, microPlaces, 1, 1) }

// ParseHourly reads a price for an hour as billionths.
func ParseHourly(text string) (int64, error) { return parse(text, nanoPlaces, 1, 1) }

// ParseSecondly reads a price for a second as billionths for an hour.
func ParseSecondly(text string) (int64, error) {
	return parse(text, secondPlaces, secondsPerHour, 100)
}

// maxUnits bounds what is read, far below where sums would not fit any more.
const maxUnits = 1_000_000

// parse reads a decimal number that is not negative, with at most so many places,
// and returns it times by over per, in units of the last place.
func parse(text string, places int, by, per int64) (int64, error) {
	whole, fraction, point := strings.Cut(text, ".")
	digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	if !digits(whole) || point && !digits(fraction) {
		return 0, fmt.Errorf("%q is not an amount; write digits with a point, such as 0.05", text)
	}
	if len(fraction) > places {
		return 0, fmt.Errorf("%q has %d digits after the point; write at most %d", text, len(fraction), places)
	}
	units, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || units >= maxUnits {
		return 0, fmt.Errorf("%q is too much; write less than %d", text, maxUnits)
	}
	n, err := strconv.ParseInt(whole+fraction+strings.Repeat("0", places-len(fraction)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not an amount: %w", text, err)
	}
	return Scale(n, by, per), nil
}

// FormatMicros writes millionths as an amount, with two digits after the point or
// as many as it has.
func FormatMicros(n int64) string { return format(n, microPlaces) }

// FormatNanos writes billionths as an amount.
func FormatNanos(n int64) string { return format(n, nanoPlaces) }

// leastPlaces are written also where they are zeros, as people write money.
const leastPlaces = 2

func format(n int64, places int) string {
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	digits := fmt.Sprintf("%0*d", places+1, n)
	whole, fraction := digits[:len(digits)-places], digits[len(digits)-places:]
	for len(fraction) > leastPlaces && fraction[len(fraction)-1] == '0' {
		fraction = fraction[:len(fraction)-1]
	}
	return sign + whole + "." + fraction
}

// ValidCurrency reports whether a code can be a currency's: three capital letters.
func ValidCurrency(code string) bool {
	return len(code) == 3 && strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// Scale returns n times by over per, rounded to the nearest, or the greatest
// number if that is less. None may be negative, and per not 0.
func Scale(n, by, per int64) int64 {
	high, low := bits.Mul64(uint64(n), uint64(by))
	low, carry := bits.Add64(low, uint64(per)/2, 0)
	high += carry
	if high >= uint64(per) {
		return math.MaxInt64
	}
	q, _ := bits.Div64(high, low, uint64(per))
	return int64(min(q, math.MaxInt64))
}

// Sum returns the sum, or the greatest number if that is less. None may be negative.
func Sum(all ...int64) (out int64) {
	for _, n := range all {
		if out > math.MaxInt64-n {
			return math.MaxInt64
		}
		out += n
	}
	return out
}
