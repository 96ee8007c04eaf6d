package record

import (
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const dataDir = "data"

// ownerDir is the folder of an owner's volumes. An owner that is no name for a
// folder, such as one with a slash, has its digest instead.
func (s *Store) ownerDir(owner string) string {
	if !validID(owner) {
		sum := sha512.Sum512([]byte(owner))
		owner = "~" + hex.EncodeToString(sum[:]) // longer than any valid id
	}
	return filepath.Join(s.dir, volumesDir, owner)
}

// volumeDir is the folder of a volume.
func (s *Store) volumeDir(owner, name string) string {
	return filepath.Join(s.ownerDir(owner), name)
}

// VolumeData is the folder that a mount of the volume shows.
func (s *Store) VolumeData(owner, name string) string {
	return filepath.Join(s.volumeDir(owner, name), dataDir)
}

// Volume reads one volume's record; fs.ErrNotExist if there is none.
func (s *Store) Volume(owner, name string) (*providerv1.Volume, error) {
	if !validID(name) {
		return nil, fs.ErrNotExist
	}
	v := &providerv1.Volume{}
	if err := read(filepath.Join(s.volumeDir(owner, name), recordFile), map[string]proto.Message{"volume": v}); err != nil {
		return nil, err
	}
	return v, nil
}

// CreateVolume makes a volume; fs.ErrExist if the owner has one of that name.
func (s *Store) CreateVolume(v *providerv1.Volume) error {
	if !validID(v.GetName()) {
		return fmt.Errorf("volume %q of owner %q: invalid name", v.GetName(), v.GetOwner())
	}
	if _, err := s.Volume(v.GetOwner(), v.GetName()); err == nil {
		return fs.ErrExist
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := os.MkdirAll(s.VolumeData(v.GetOwner(), v.GetName()), 0o700)
	if errors.Is(err, fs.ErrNotExist) { // the owner's last volume was removed at that moment
		err = os.MkdirAll(s.VolumeData(v.GetOwner(), v.GetName()), 0o700)
	}
	if err != nil {
		return fmt.Errorf("make volume folder: %w", err)
	}
	return write(filepath.Join(s.volumeDir(v.GetOwner(), v.GetName()), recordFile), map[string]proto.Message{"volume": v})
}

// VolumeNames lists an owner's volumes in order.
func (s *Store) VolumeNames(owner string) ([]string, error) {
	names, err := folders(s.ownerDir(owner))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return names, err
}

// RemoveVolume forgets a volume and its content, and with the last one the
// owner.
func (s *Store) RemoveVolume(owner, name string) error {
	if err := removeObject(s.volumeDir(owner, name)); err != nil {
		return err
	}
	_ = os.Remove(s.ownerDir(owner)) // which fails while there are others
	return nil
}
