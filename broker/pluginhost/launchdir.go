package pluginhost

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

const (
	// maxSocketPath is below the 108 bytes of sun_path, with room for the end.
	maxSocketPath = 100
	// launchPrefix starts the name of each launch folder.
	launchPrefix = "p"
	// launchBytes is what one launch adds to the runtime folder in the longest
	// case: /p4294967295/plugin4294967295.
	launchBytes = len("/"+launchPrefix+"4294967295") + len("/plugin4294967295")
	// MaxRuntimeDir is the longest path, in bytes, that Options.RuntimeDir may be.
	MaxRuntimeDir = maxSocketPath - launchBytes
	// recordFile in a launch folder says whose it is.
	recordFile = "launch.json"
)

// identity names one process for good: a pid alone is used again.
type identity struct {
	PID int `json:"pid"`
	// Start is the start time in clock ticks since boot.
	Start uint64 `json:"start"`
	// Boot is the id of that boot.
	Boot string `json:"boot"`
}

// record is what a launch folder holds for the sweep after a killed broker.
type record struct {
	Provider string    `json:"provider"`
	Host     identity  `json:"host"`
	Plugin   *identity `json:"plugin,omitempty"`
}

// launchDir is the folder of one launch: its socket and its record.
type launchDir struct {
	path   string
	record record
}

func newLaunchDir(runtimeDir, provider string, host identity) (*launchDir, error) {
	path, err := os.MkdirTemp(runtimeDir, launchPrefix)
	if err != nil {
		return nil, fmt.Errorf("make launch folder: %w", err)
	}
	d := &launchDir{path: path, record: record{Provider: provider, Host: host}}
	if err := d.write(); err != nil {
		_ = os.RemoveAll(path)
		return nil, err
	}
	return d, nil
}

// started records the process as soon as it exists.
func (d *launchDir) started(pid int) error {
	id, err := identify(pid)
	if err != nil {
		return err
	}
	d.record.Plugin = &id
	return d.write()
}

func (d *launchDir) write() error {
	data, err := json.Marshal(d.record)
	if err != nil {
		return fmt.Errorf("write launch record: %w", err)
	}
	tmp := filepath.Join(d.path, "."+recordFile)
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fmt.Errorf("write launch record: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(d.path, recordFile)); err != nil {
		return fmt.Errorf("write launch record: %w", err)
	}
	return nil
}

func (d *launchDir) remove() error { return os.RemoveAll(d.path) }
