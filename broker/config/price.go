package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/sandbar-dev/sandbar/broker/price"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// Price is the price book of a provider. Amounts are decimal numbers of the
// currency; what is not there costs nothing.
type Price struct {
	// Currency is three letters, such as USD.
	Currency string `yaml:"currency"`
	// Basis is deterministic, usage-dependent or plan-dependent.
	Basis string `yaml:"basis"`
	// SandboxHour is for each that runs, whatever it has.
	SandboxHour string `yaml:"sandbox_hour"`
	// For a CPU and a GiB while it runs: for an hour, or for a second, which is how
	// the vendor writes it.
	CPUHour         string `yaml:"cpu_hour"`
	CPUSecond       string `yaml:"cpu_second"`
	MemoryGiBHour   string `yaml:"memory_gib_hour"`
	MemoryGiBSecond string `yaml:"memory_gib_second"`
	DiskGiBHour     string `yaml:"disk_gib_hour"`
	DiskGiBSecond   string `yaml:"disk_gib_second"`
	// GPUHour is by kind of GPU.
	GPUHour map[string]string `yaml:"gpu_hour"`
	// Start is for each sandbox, once.
	Start string `yaml:"start"`
	// For each that is paused, and for a GiB of it.
	PausedHour          string `yaml:"paused_hour"`
	PausedMemoryGiBHour string `yaml:"paused_memory_gib_hour"`
	PausedDiskGiBHour   string `yaml:"paused_disk_gib_hour"`
}

// Assumed is what a sandbox has whose request does not say. 0: nobody knows.
type Assumed struct {
	CPUMillis   int `yaml:"cpu_millis"`
	MemoryBytes int `yaml:"memory_bytes"`
	DiskBytes   int `yaml:"disk_bytes"`
}

// Amounts returns it as it is counted with.
func (a Assumed) Amounts() price.Amounts {
	return price.Amounts{CPUMillis: int64(a.CPUMillis), MemoryBytes: int64(a.MemoryBytes), DiskBytes: int64(a.DiskBytes)}
}

var bases = map[string]brokerv1.PriceBasis{
	"deterministic":   brokerv1.PriceBasis_PRICE_BASIS_DETERMINISTIC,
	"usage-dependent": brokerv1.PriceBasis_PRICE_BASIS_USAGE_DEPENDENT,
	"plan-dependent":  brokerv1.PriceBasis_PRICE_BASIS_PLAN_DEPENDENT,
}

// Book returns the book as it is applied; nil for nil. What Parse let through has
// no error.
func (p *Price) Book() (*price.Book, error) {
	if p == nil {
		return nil, nil //nolint:nilnil // no book is a book of unknown prices
	}
	b := &price.Book{Currency: p.Currency, Basis: bases[p.Basis]}
	for _, a := range p.amounts(b) {
		if err := a.read(); err != nil {
			return nil, fmt.Errorf("price.%s: %w", a.field, err)
		}
	}
	for kind, text := range p.GPUHour {
		n, err := price.ParseHourly(text)
		if err != nil {
			return nil, fmt.Errorf("price.gpu_hour.%s: %w", kind, err)
		}
		if b.GPU == nil {
			b.GPU = make(map[string]int64, len(p.GPUHour))
		}
		b.GPU[kind] = n
	}
	return b, nil
}

// amount is one price, where it goes, and how it is written.
type amount struct {
	field, text string
	to          *int64
	parse       func(string) (int64, error)
}

func (a amount) read() (err error) {
	if a.text != "" {
		*a.to, err = a.parse(a.text)
	}
	return err
}

func (p *Price) amounts(b *price.Book) []amount {
	return []amount{
		{"sandbox_hour", p.SandboxHour, &b.Sandbox, price.ParseHourly},
		{"cpu_hour", p.CPUHour, &b.CPU, price.ParseHourly},
		{"cpu_second", p.CPUSecond, &b.CPU, price.ParseSecondly},
		{"memory_gib_hour", p.MemoryGiBHour, &b.Memory, price.ParseHourly},
		{"memory_gib_second", p.MemoryGiBSecond, &b.Memory, price.ParseSecondly},
		{"disk_gib_hour", p.DiskGiBHour, &b.Disk, price.ParseHourly},
		{"disk_gib_second", p.DiskGiBSecond, &b.Disk, price.ParseSecondly},
		{"start", p.Start, &b.Start, price.ParseMicros},
		{"paused_hour", p.PausedHour, &b.Paused, price.ParseHourly},
		{"paused_memory_gib_hour", p.PausedMemoryGiBHour, &b.PausedMemory, price.ParseHourly},
		{"paused_disk_gib_hour", p.PausedDiskGiBHour, &b.PausedDisk, price.ParseHourly},
	}
}

func (d *decoder) checkPrice(field string, p Provider) {
	for name, n := range map[string]int{"cpu_millis": p.Assumed.CPUMillis, "memory_bytes": p.Assumed.MemoryBytes, "disk_bytes": p.Assumed.DiskBytes} {
		if n < 0 {
			d.reject(field+".assumed."+name, strconv.Itoa(n), "an amount, or 0 if nobody knows")
		}
	}
	if p.Price == nil {
		return
	}
	field += ".price"
	sound := d.sound(field)
	if c := p.Price.Currency; !price.ValidCurrency(c) && (c != "" || sound) {
		d.rejectIn(field, "currency", c, "three capital letters, such as USD")
	}
	if p.Price.Basis == "" && sound {
		d.failAt(d.lines[field], field+".basis", "is missing: want one of %q", slices.Sorted(maps.Keys(bases)))
	}
	d.oneOf(field+".basis", p.Price.Basis, slices.Sorted(maps.Keys(bases))...)
	for _, a := range p.Price.amounts(&price.Book{}) {
		if err := a.read(); err != nil {
			d.failAt(d.lines[field+"."+a.field], field+"."+a.field, "cannot be: %v", err)
		}
	}
	for kind, text := range p.Price.GPUHour {
		if _, err := price.ParseHourly(text); err != nil {
			d.failAt(d.lines[field+".gpu_hour."+kind], field+".gpu_hour."+kind, "cannot be: %v", err)
		}
	}
	for _, twice := range []struct{ name, hour, second string }{
		{"cpu", p.Price.CPUHour, p.Price.CPUSecond}, {"memory_gib", p.Price.MemoryGiBHour, p.Price.MemoryGiBSecond}, {"disk_gib", p.Price.DiskGiBHour, p.Price.DiskGiBSecond},
	} {
		if twice.hour != "" && twice.second != "" {
			d.failAt(d.lines[field+"."+twice.name+"_second"], field+"."+twice.name+"_second", "is there beside %s_hour: want one of them", twice.name)
		}
	}
}

// rejectIn is reject for a value that may be missing.
func (d *decoder) rejectIn(parent, name, value, want string) {
	if value == "" {
		d.failAt(d.lines[parent], parent+"."+name, "is missing: want %s", want)
		return
	}
	d.reject(parent+"."+name, value, want)
}
