package unprivileged_test

import (
	"os"
	"testing"

	"github.com/sandbar-dev/sandbar/plugins/local/unprivileged"
)

func TestAgain(t *testing.T) {
	unprivileged.Again(t, unprivileged.Nameless, "^TestWhoAmI$", "SECOND=run")
}

// TestWhoAmI means something in the second run only.
func TestWhoAmI(t *testing.T) {
	if os.Getenv("SECOND") == "" {
		t.Skip("run by TestAgain")
	}
	if os.Geteuid() != int(unprivileged.Nameless.UID) || os.Getegid() != int(unprivileged.Nameless.GID) {
		t.Errorf("user %d of group %d", os.Geteuid(), os.Getegid())
	}
	if err := os.WriteFile(os.Getenv("HOME")+"/file", nil, 0o600); err != nil {
		t.Error(err)
	}
	if groups, err := os.Getgroups(); err != nil || len(groups) != 0 {
		t.Errorf("groups %v, %v", groups, err)
	}
}

func TestAccount(t *testing.T) {
	root, err := unprivileged.Account("root")
	if err != nil || root.UID != 0 || root.Home == "" {
		t.Errorf("root is %+v, %v", root, err)
	}
	if _, err := unprivileged.Account("no such user"); err == nil {
		t.Error("a user that does not exist was found")
	}
}
