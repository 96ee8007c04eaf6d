package e2e_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/programs"
	"github.com/sandbar-dev/sandbar/plugins/local/unprivileged"
)

// binariesFlag names the folder of the binaries in the copy of the tests that
// runs as an ordinary user.
const binariesFlag = "SANDBAR_E2E_BINARIES"

// accountFlag names a user of the machine for TestAsAccount; in what that runs it
// says that HOME is the user's own.
const accountFlag = "SANDBAR_E2E_ACCOUNT"

// binaries is the folder of the real binaries: sandbar, its providers, guest, and
// another version of sandbar in other/.
var binaries = os.Getenv(binariesFlag)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if binaries == "" {
		dir, err := os.MkdirTemp("", "e2")
		if err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		if err := build(dir); err != nil {
			panic(err)
		}
		binaries = dir
	}
	return m.Run()
}

// build makes the binaries.
func build(dir string) error {
	other := filepath.Join(dir, "other")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(other, 0o755)); err != nil {
		return err
	}
	return errors.Join(
		programs.Build(dir, "e2e", "./cmd/sandbar", "./cmd/sandbar/sandbar-broker", "./cmd/sandbar-provider-local", "./cmd/sandbar-provider-fake", "./cmd/sandbar/internal/e2e/testdata/guest"),
		programs.BuildGuestAgent(dir),
		programs.Build(other, "another", "./cmd/sandbar", "./cmd/sandbar/sandbar-broker", "./cmd/sandbar-provider-local"),
		otherAgent(dir, other))
}

// otherAgent makes an agent that is another file than the first.
func otherAgent(dir, other string) error {
	const name = "sandbar-guest-agent"
	program, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(other, name), append(program, "another"...), 0o755)
}

// TestAsOrdinaryUser runs every other test once more without any rights.
func TestAsOrdinaryUser(t *testing.T) {
	t.Parallel()
	unprivileged.Again(t, unprivileged.Nameless, os.Getenv("SANDBAR_E2E_ORDINARY_RUN"), binariesFlag+"="+binaries)
}

// TestAsAccount runs some tests as a user as machines have them, with a name, a
// home and subordinate ids, if there is one that is meant for it.
func TestAsAccount(t *testing.T) {
	name := os.Getenv(accountFlag)
	if name == "" {
		t.Skip("set " + accountFlag + " to the name of an ordinary user who may be used up")
	}
	t.Parallel()
	account, err := unprivileged.Account(name)
	if err != nil {
		t.Fatal(err)
	}
	const some = "^Test(PlainHome|CommandOne|ExitCodes|Mounts|Volumes|SnapshotAndRestore|ForkIntoEight|KillDuringRestore|NoSecretInside|ShellIsATerminal)$"
	unprivileged.Again(t, account, some, binariesFlag+"="+binaries, accountFlag+"="+name)
}
