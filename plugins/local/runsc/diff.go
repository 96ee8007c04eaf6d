package runsc

import (
	"fmt"
	"os"
)

// Diff writes what the guest changed against its lower root, as a tar archive in OCI layer form, to f. Mounts are no part of it.
func (s *Sandbox) Diff(f *os.File) error {
	if err := s.sand.TarRootfsUpperLayer(s.cfg.ID, f); err != nil {
		return fmt.Errorf("collect changes of sandbox %q: %w", s.cfg.ID, err)
	}
	return nil
}
