package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// agentName is the agent of a guest, in the folder of its sandbox and in that of a
// checkpoint. Both are links to one file: a checkpoint has the agent's code mapped,
// and is restored with the very same file only, whatever build of the provider does
// it. The file goes with the last folder that needs it.
const agentName = "agent"

// agent returns the file that is to be process 1 of the guest. It is in the
// sandbox's folder unless it is this program itself.
func agent(l *life, boot *Boot) (string, error) {
	source := boot.Agent
	if boot.Checkpoint != "" {
		source = filepath.Join(boot.Checkpoint, agentName)
		if _, err := os.Lstat(source); errors.Is(err, fs.ErrNotExist) {
			source = "" // the agent was a whole provider: perhaps this one
		}
	}
	if source == "" {
		exe, err := os.Readlink("/proc/self/exe")
		if err != nil {
			return "", fmt.Errorf("find own binary: %w", err)
		}
		return exe, nil
	}
	kept := filepath.Join(l.dir, agentName)
	if err := os.Remove(kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("remove the agent of a life before: %w", err)
	}
	if err := os.Link(source, kept); err != nil {
		return "", fmt.Errorf("keep the guest's agent: %w", err)
	}
	return kept, nil
}

// keepAgent puts the agent of a sandbox into a checkpoint of it, if it has one of
// its own.
func keepAgent(sandboxDir, checkpoint string) error {
	err := os.Link(filepath.Join(sandboxDir, agentName), filepath.Join(checkpoint, agentName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keep the guest's agent: %w", err)
	}
	return nil
}
