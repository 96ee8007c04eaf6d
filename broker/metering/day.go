package metering

import (
	"fmt"
	"time"
)

// Day is a day in UTC, by its number since 1970-01-01.
type Day int64

const (
	dayForm = time.DateOnly
	oneDay  = 24 * time.Hour
)

// DayOf returns the day of a moment.
func DayOf(t time.Time) Day {
	seconds := t.Unix()
	day := seconds / int64(oneDay/time.Second)
	if seconds < 0 && seconds%int64(oneDay/time.Second) != 0 {
		day--
	}
	return Day(day)
}

// Start returns its first moment.
func (d Day) Start() time.Time { return time.Unix(int64(d)*int64(oneDay/time.Second), 0).UTC() }

// Month returns the first day of its month.
func (d Day) Month() Day {
	y, m, _ := d.Start().Date()
	return DayOf(time.Date(y, m, 1, 0, 0, 0, 0, time.UTC))
}

// NextMonth returns the first day of the month after its own.
func (d Day) NextMonth() Day {
	y, m, _ := d.Start().Date()
	return DayOf(time.Date(y, m+1, 1, 0, 0, 0, 0, time.UTC))
}

// String writes it as 2026-11-01.
func (d Day) String() string { return d.Start().Format(dayForm) }

// ParseDay reads what String writes.
func ParseDay(text string) (Day, error) {
	t, err := time.Parse(dayForm, text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a day; write one such as 2026-11-01", text)
	}
	return DayOf(t), nil
}
