package agent

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// maxHostFile bounds what is rewritten of a file that names the host.
const maxHostFile = 1 << 20

// rename gives the host another name, in the kernel and in the files that say it. The kernel lets process 1 do that.
func rename(name string) error {
	old, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("read host name: %w", err)
	}
	if old == name {
		return nil
	}
	if err := syscall.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	for file, line := range wire.HostFiles {
		if err := replaceLine(file, fmt.Sprintf(line, old), fmt.Sprintf(line, name)); err != nil {
			return fmt.Errorf("rename host in %q: %w", file, err)
		}
	}
	return nil
}

// replaceLine rewrites a regular file that has the line old, and keeps its time: it is as much as before what somebody made it. Whatever
// else the guest has put there stays, and so does a file for which its full disk has no room.
func replaceLine(name, old, line string) error {
	before, err := os.Lstat(name)
	if err != nil || !before.Mode().IsRegular() || before.Size() > maxHostFile {
		return nil //nolint:nilerr // it is gone, or something else
	}
	content, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	renamed, found := replaced(string(content), old, line)
	if !found {
		return nil
	}
	err = overwrite(name, renamed)
	if errors.Is(err, syscall.ENOSPC) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Chtimes(name, before.ModTime(), before.ModTime())
}

// overwrite never leaves less than there was, should there be no room for more.
func overwrite(name, content string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err == nil {
		err = f.Truncate(int64(len(content)))
	}
	return errors.Join(err, f.Close())
}

// replaced replaces the first line of a text that is old.
func replaced(text, old, line string) (string, bool) {
	if strings.HasPrefix(text, old) {
		return line + text[len(old):], true
	}
	before, after, found := strings.Cut(text, "\n"+old)
	return before + "\n" + line + after, found
}
