package bench

import (
	"os/exec"
	"syscall"
)

const (
	// systemCalls and touched are enough for a clock to see.
	systemCalls = 1000
	touched     = 4 << 20
	pageSize    = 4 << 10
)

// machine measures what the kernel takes for what all else is made of: virtual
// machines differ in that by factors, and runs are compared best on the same.
func (m *meter) machine() []Row {
	calls := m.times(4*m.rounds, func() {
		for range systemCalls {
			syscall.Getppid()
		}
	})
	faults := m.times(4*m.rounds, func() {
		mem, err := syscall.Mmap(-1, 0, touched, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
		if err != nil {
			m.t.Fatal(err)
		}
		for i := 0; i < len(mem); i += pageSize {
			mem[i] = 1
		}
		if err := syscall.Munmap(mem); err != nil {
			m.t.Fatal(err)
		}
	})
	process := m.times(m.rounds, func() { m.must(exec.CommandContext(m.t.Context(), "/bin/true")) })
	return []Row{
		Timed("1,000 system calls", "", calls, "getppid, which does nothing"),
		Timed("1,000 page faults", "", faults, "the first touch of each page of 4 MiB, and giving them back"),
		Timed("a process", "", process, "fork, exec and wait for `/bin/true`"),
	}
}
