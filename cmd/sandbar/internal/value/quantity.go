package value

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes such as 512MiB, 1.5GiB, 64M or 1000000.
type Size int64

var sizeUnits = map[string]float64{
	"": 1, "b": 1,
	"k": 1 << 10, "kib": 1 << 10, "kb": 1e3,
	"m": 1 << 20, "mib": 1 << 20, "mb": 1e6,
	"g": 1 << 30, "gib": 1 << 30, "gb": 1e9,
	"t": 1 << 40, "tib": 1 << 40, "tb": 1e12,
}

// UnmarshalText parses a positive size.
func (s *Size) UnmarshalText(text []byte) error {
	in := strings.TrimSpace(string(text))
	split := strings.IndexFunc(in, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if split < 0 {
		split = len(in)
	}
	number, err := strconv.ParseFloat(in[:split], 64)
	unit, ok := sizeUnits[strings.ToLower(strings.TrimSpace(in[split:]))]
	bytes := math.Floor(number * unit)
	if err != nil || !ok || bytes < 1 || bytes > math.MaxInt64/2 {
		return fmt.Errorf("%q is not a size; write a number with KiB, MiB, GiB or TiB, such as 512MiB", in)
	}
	*s = Size(bytes)
	return nil
}

// CPU is a number of CPUs in thousandths: 0.5 is 500.
type CPU int64

// UnmarshalText parses a positive number of CPUs.
func (c *CPU) UnmarshalText(text []byte) error {
	n, err := strconv.ParseFloat(string(text), 64)
	millis := math.Round(n * 1000)
	if err != nil || !(millis >= 1 && millis <= 1e9) {
		return fmt.Errorf("%q is not a number of CPUs; write one such as 0.5 or 2", text)
	}
	*c = CPU(millis)
	return nil
}

// GPU is a number of accelerators, of a kind if that matters: 2, H100 or H100:2.
type GPU struct {
	// Kind is in the provider's words; empty: any.
	Kind  string
	Count int32
}

// UnmarshalText parses N, KIND or KIND:N.
func (g *GPU) UnmarshalText(text []byte) error {
	in := string(text)
	kind, number, both := strings.Cut(in, ":")
	if _, err := strconv.ParseInt(in, 10, 64); err == nil {
		kind, number, both = "", in, true
	}
	n := int64(1)
	var err error
	if both {
		n, err = strconv.ParseInt(number, 10, 32)
	}
	if err != nil || n < 1 || kind == "" && (!both || strings.HasPrefix(in, ":")) {
		return fmt.Errorf("%q asks for no GPU; write a number, a kind or both, such as 1, H100 or H100:2", in)
	}
	*g = GPU{Kind: kind, Count: int32(n)}
	return nil
}

// Port is a TCP port that something can listen on.
type Port uint16

// UnmarshalText parses a number from 1 to 65535.
func (p *Port) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("%q is not a port; write a number from 1 to 65535", text)
	}
	*p = Port(n)
	return nil
}

// Duration is a positive time span as Go writes it, with d for days.
type Duration time.Duration

// UnmarshalText parses 90s, 1h30m or 7d.
func (d *Duration) UnmarshalText(text []byte) error {
	in := string(text)
	v, err := time.ParseDuration(in)
	if days, ok := strings.CutSuffix(in, "d"); ok && err != nil {
		var n float64
		n, err = strconv.ParseFloat(days, 64)
		v = time.Duration(n * float64(24*time.Hour))
	}
	if err != nil || v <= 0 {
		return fmt.Errorf("%q is not a time span; write one such as 90s, 1h30m or 7d", in)
	}
	*d = Duration(v)
	return nil
}
