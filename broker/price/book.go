package price

import (
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Book is the price book of one provider. Prices are in billionths of a unit of
// the currency for an hour; 0: the provider charges nothing for that. The zero
// value is a provider that is free of charge; nil is one of unknown price.
type Book struct {
	Currency string
	Basis    brokerv1.PriceBasis
	// Sandbox is for each that runs, whatever it has.
	Sandbox int64
	// CPU is for one CPU, Memory and Disk are for one GiB, while it runs.
	CPU, Memory, Disk int64
	// GPU is for one of a kind, while it runs.
	GPU map[string]int64
	// Start is for each sandbox, once, in millionths.
	Start int64
	// Paused, PausedMemory and PausedDisk are for each that is paused, and for a GiB.
	Paused, PausedMemory, PausedDisk int64
}

// Amounts are what one sandbox has. 0: nobody says.
type Amounts struct {
	CPUMillis, MemoryBytes, DiskBytes int64
	// GPUs of one kind; an empty kind is any.
	GPUs int64
	GPU  string
}

// Count returns what a sandbox is counted with: what its spec asks for and, where
// it says nothing, what is assumed of its provider.
func Count(spec *providerv1.SandboxSpec, assumed Amounts) Amounts {
	res, out := spec.GetResources(), assumed
	if n := res.GetCpuMillis(); n > 0 {
		out.CPUMillis = n
	}
	if n := res.GetMemoryBytes(); n > 0 {
		out.MemoryBytes = n
	}
	if n := res.GetDiskBytes(); n > 0 {
		out.DiskBytes = n
	}
	if gpu := res.GetGpu(); gpu != nil {
		out.GPUs, out.GPU = max(int64(gpu.GetCount()), 1), gpu.GetKind()
	}
	return out
}

const (
	millis = 1000
	gib    = 1 << 30
)

// Estimate returns what a sandbox with these amounts costs. It is nil, unknown, if
// there is no book, or the book has a price for what nobody says the amount of.
func (b *Book) Estimate(a Amounts) *brokerv1.Price {
	if b == nil {
		return nil
	}
	known := true
	of := func(price, amount, per int64) int64 {
		known = known && (price == 0 || amount > 0)
		return Scale(price, amount, per)
	}
	p := &brokerv1.Price{
		Currency: b.Currency, Basis: b.Basis, StartMicros: b.Start,
		RunningNanosPerHour: Sum(b.Sandbox, of(b.CPU, a.CPUMillis, millis), of(b.Memory, a.MemoryBytes, gib), of(b.Disk, a.DiskBytes, gib)),
		PausedNanosPerHour:  Sum(b.Paused, of(b.PausedMemory, a.MemoryBytes, gib), of(b.PausedDisk, a.DiskBytes, gib)),
	}
	if a.GPUs > 0 {
		each, listed := b.GPU[a.GPU]
		known = known && listed
		p.RunningNanosPerHour = Sum(p.GetRunningNanosPerHour(), Scale(each, a.GPUs, 1))
	}
	if !known {
		return nil
	}
	return p
}

// Rate returns what a sandbox is counted and priced by.
func (b *Book) Rate(a Amounts) *brokerv1.Rate {
	return &brokerv1.Rate{CpuMillis: a.CPUMillis, MemoryBytes: a.MemoryBytes, DiskBytes: a.DiskBytes, Price: b.Estimate(a)}
}
