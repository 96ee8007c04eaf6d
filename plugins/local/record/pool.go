package record

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// MemberDir is the folder of a member of the warm pool: a sandbox's process that
// is nobody's sandbox yet.
func (s *Store) MemberDir(name string) string { return filepath.Join(s.dir, poolDir, name) }

// MakeMember makes the folder of a new member.
func (s *Store) MakeMember(name string) error {
	if !validID(name) {
		return fmt.Errorf("make member %q of the pool: invalid name", name)
	}
	if err := os.Mkdir(s.MemberDir(name), 0o700); err != nil {
		return fmt.Errorf("make member of the pool: %w", err)
	}
	return nil
}

// MemberNames lists members that have a folder, in order.
func (s *Store) MemberNames() ([]string, error) { return folders(filepath.Join(s.dir, poolDir)) }

// RemoveMember removes what is left of a member whose process has ended.
func (s *Store) RemoveMember(name string) error { return removeObject(s.MemberDir(name)) }

// Adopt makes a member's folder the folder of a sandbox, with its record. The
// rename is the moment: before it there is a member, and after it a sandbox,
// whoever dies when. On failure the member is still one.
func (s *Store) Adopt(name string, rec *Sandbox) error {
	id := rec.Sandbox.GetIdentity().GetSandboxId()
	if !validID(id) {
		return fmt.Errorf("adopt member of the pool: invalid id %q", id)
	}
	from, to := s.MemberDir(name), s.SandboxDir(id)
	// What a crash left of an attempt with this id; a sandbox is none of it.
	if _, err := os.Stat(SandboxRecord(to)); errors.Is(err, fs.ErrNotExist) {
		if err := removeObject(to); err != nil {
			return fmt.Errorf("adopt member of the pool: %w", err)
		}
	}
	if err := WriteSandbox(from, rec); err != nil {
		return fmt.Errorf("adopt member of the pool: %w", err)
	}
	if err := os.Rename(from, to); err != nil {
		return errors.Join(fmt.Errorf("adopt member of the pool: %w", err), os.Remove(SandboxRecord(from)))
	}
	return nil
}

// Adopted returns the folder and the record of the sandbox that a member's
// folder has become, and fs.ErrNotExist while it is a member's. member is a path
// that leads to the folder wherever it is now, and was the path it had in the
// pool.
func Adopted(member, was string) (dir string, rec *Sandbox, err error) {
	rec, err = ReadSandbox(member)
	if err != nil {
		return "", nil, err
	}
	dir = filepath.Join(filepath.Dir(filepath.Dir(was)), sandboxesDir, rec.Sandbox.GetIdentity().GetSandboxId())
	there, err := os.Stat(dir)
	if err != nil {
		return "", nil, err
	}
	here, err := os.Stat(member)
	if err != nil {
		return "", nil, err
	}
	if !os.SameFile(here, there) {
		return "", nil, fmt.Errorf("%q is not the folder of its record: %w", dir, fs.ErrNotExist)
	}
	return dir, rec, nil
}
