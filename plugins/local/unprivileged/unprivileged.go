package unprivileged

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// User is who runs the tests.
type User struct {
	UID, GID uint32
	// Home is an existing folder. Empty: a folder of this run's own.
	Home string
}

// Nameless has no account, no home and no subordinate ids.
var Nameless = User{UID: 12345, GID: 12345}

// Account returns a user that the machine knows by name, with its home.
func Account(name string) (User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return User{}, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return User{}, fmt.Errorf("user %s: %w", name, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return User{}, fmt.Errorf("group of user %s: %w", name, err)
	}
	return User{UID: uint32(uid), GID: uint32(gid), Home: u.HomeDir}, nil
}

// Again runs the tests of this binary that match run, all if it is empty, as
// another user, in an environment that has env and little else. It skips t in a
// test that is not root's, which is how it ends in the second run.
func Again(t *testing.T, as User, run string, env ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("already an ordinary user")
	}
	tests, tmp := install(t, as)
	home := as.Home
	if home == "" {
		home = tmp
	}
	args := []string{"-test.timeout=" + left(t).String()}
	if testing.Verbose() {
		args = append(args, "-test.v")
	}
	if run != "" {
		args = append(args, "-test.run="+run)
	}
	cmd := exec.CommandContext(t.Context(), tests, args...)
	// Tests that hang say where.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Dir = tmp
	cmd.Env = append([]string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + home, "TMPDIR=" + tmp}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: as.UID, Gid: as.GID}}
	out, err := cmd.CombinedOutput()
	if testing.Verbose() || err != nil {
		t.Logf("as user %d:\n%s", as.UID, out)
	}
	if err != nil {
		t.Error(err)
	}
}

// install copies this test binary to where the user may run it, beside a folder
// of the user's own. The path is short, as the paths of sockets must be.
func install(t *testing.T, as User) (tests, tmp string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "un") // not t.TempDir, whose parents only root may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	tests, tmp = filepath.Join(dir, "t"), filepath.Join(dir, "u")
	err = errors.Join(
		os.Chmod(dir, 0o755), os.WriteFile(tests, self, 0o755),
		os.Mkdir(tmp, 0o700), os.Chown(tmp, int(as.UID), int(as.GID)),
	)
	if err != nil {
		t.Fatal(err)
	}
	return tests, tmp
}

// left is how long the second run may take: as long as the first may, but for the
// time to tell what hung in it.
func left(t *testing.T) time.Duration {
	t.Helper()
	const telling = 30 * time.Second
	deadline, ok := t.Deadline()
	if !ok {
		return 0 // none
	}
	return max(time.Until(deadline)-telling, time.Second)
}
