package record

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func memberRecord(id string) *Sandbox {
	return &Sandbox{Sandbox: &providerv1.Sandbox{Identity: &providerv1.Identity{SandboxId: id}}, Spec: &providerv1.SandboxSpec{}}
}

func openPool(t *testing.T) (*Store, *os.File) {
	t.Helper()
	s, err := Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.MakeMember("m1"); err != nil {
		t.Fatal(err)
	}
	held, err := os.Open(s.MemberDir("m1"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = held.Close() })
	return s, held
}

// adopted asks as a shim does, by the open folder.
func adopted(s *Store, held *os.File) (string, error) {
	dir, _, err := Adopted(filepath.Join("/proc/self/fd", fd(held)), s.MemberDir("m1"))
	return dir, err
}

func fd(f *os.File) string {
	entries, _ := os.ReadDir("/proc/self/fd")
	want, _ := f.Stat()
	for _, e := range entries {
		if got, err := os.Stat("/proc/self/fd/" + e.Name()); err == nil && os.SameFile(got, want) {
			return e.Name()
		}
	}
	return "none"
}

func TestAdopt(t *testing.T) {
	s, held := openPool(t)
	if _, err := adopted(s, held); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a member says it is a sandbox: %v", err)
	}
	if err := s.Adopt("m1", memberRecord("sbx_1")); err != nil {
		t.Fatal(err)
	}
	dir, err := adopted(s, held)
	if err != nil || dir != s.SandboxDir("sbx_1") {
		t.Errorf("an adopted member says it is in %q: %v", dir, err)
	}
	if names, err := s.MemberNames(); err != nil || len(names) != 0 {
		t.Errorf("members after the adoption: %v %v", names, err)
	}
	if _, err := s.Sandbox("sbx_1"); err != nil {
		t.Error(err)
	}
}

// TestAdoptDiesHalfWay: the record is written and the folder still in the pool.
func TestAdoptDiesHalfWay(t *testing.T) {
	s, held := openPool(t)
	if err := WriteSandbox(s.MemberDir("m1"), memberRecord("sbx_1")); err != nil {
		t.Fatal(err)
	}
	if _, err := adopted(s, held); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a member with a record says it is a sandbox: %v", err)
	}
	// Nor does it take another's folder for its own.
	if err := s.PutSandbox(memberRecord("sbx_1")); err != nil {
		t.Fatal(err)
	}
	if _, err := adopted(s, held); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a member takes another sandbox for itself: %v", err)
	}
}

func TestAdoptRefuses(t *testing.T) {
	s, held := openPool(t)
	if err := s.PutSandbox(memberRecord("sbx_1")); err != nil {
		t.Fatal(err)
	}
	if err := s.Adopt("m1", memberRecord("sbx_1")); err == nil {
		t.Error("a sandbox was replaced")
	}
	if err := s.Adopt("m1", memberRecord("../x")); err == nil {
		t.Error("an id leads out of the folder of sandboxes")
	}
	if _, err := os.Stat(SandboxRecord(s.MemberDir("m1"))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused adoption leaves its record: %v", err)
	}
	// What a crash left under the id is in nobody's way.
	if err := os.MkdirAll(filepath.Join(s.SandboxDir("sbx_2"), "disk"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Adopt("m1", memberRecord("sbx_2")); err != nil {
		t.Error(err)
	}
	if _, err := adopted(s, held); err != nil {
		t.Error(err)
	}
	if err := s.MakeMember("../x"); err == nil {
		t.Error("a name leads out of the pool")
	}
}

func TestRemoveMember(t *testing.T) {
	s, _ := openPool(t)
	if names, err := s.MemberNames(); err != nil || len(names) != 1 {
		t.Errorf("members: %v %v", names, err)
	}
	if err := s.RemoveMember("m1"); err != nil {
		t.Error(err)
	}
	if names, err := s.MemberNames(); err != nil || len(names) != 0 {
		t.Errorf("members: %v %v", names, err)
	}
}
