package local

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// agentFile is the agent of guests to come, in the state folder. Each sandbox has a
// link to it, so that another one may take its place.
const agentFile = "guest-agent"

// installAgent copies the agent's program into the state folder, unless it is there,
// and returns where it is. Of no program there is no copy: then guests have the whole
// provider as their agent.
func installAgent(program, stateDir string) (string, error) {
	if program == "" {
		return "", nil
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return "", fmt.Errorf("read the guest's agent: %w", err)
	}
	path := filepath.Join(stateDir, agentFile)
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, data) {
		return path, nil
	}
	fresh := path + ".new" // one plugin at a time has the state folder
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", fmt.Errorf("install the guest's agent: %w", err)
	}
	_, err = f.Write(data)
	// Not only for its owner: in a guest, users of any number execute it.
	err = errors.Join(err, f.Chmod(0o755), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		return "", fmt.Errorf("install the guest's agent: %w", errors.Join(err, os.Remove(fresh)))
	}
	return path, nil
}
