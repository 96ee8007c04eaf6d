package fake

import (
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// store keeps the vendor's objects as one file each, replaced by rename: a plugin
// that is killed at any moment leaves every object whole. With no folder it
// keeps nothing. The format is gob, which takes contents of files as they are:
// programs write them again and again.
type store struct{ dir string }

// suffix of the name of a file that is whole.
const suffix = ".gob"

func (s *store) write(class, name string, object any) error {
	if s.dir == "" {
		return nil
	}
	dir := filepath.Join(s.dir, class)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	err = errors.Join(gob.NewEncoder(f).Encode(object), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name+suffix))
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("store %s %q: %w", class, name, err)
	}
	return nil
}

func (s *store) remove(class, name string) error {
	if s.dir == "" {
		return nil
	}
	err := os.Remove(filepath.Join(s.dir, class, name+suffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// read calls f with a decoder for each stored object of a class.
func (s *store) read(class string, f func(*gob.Decoder) error) error {
	entries, err := os.ReadDir(filepath.Join(s.dir, class))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		file := filepath.Join(s.dir, class, e.Name())
		if !strings.HasSuffix(file, suffix) {
			if err := os.Remove(file); err != nil { // a write that was cut
				return err
			}
			continue
		}
		if err := decode(file, f); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

func decode(file string, f func(*gob.Decoder) error) error {
	r, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // it was only read
	return f(gob.NewDecoder(r))
}

// load reads everything. Programs ran in the plugin that is gone: a sandbox that
// was running has none left, and one that was paused with them says so.
func (c *cloud) load() error {
	if err := c.undoForks(); err != nil {
		return err
	}
	var boxes []*box
	err := errors.Join(
		c.store.read("sandboxes", func(d *gob.Decoder) error {
			b := &box{}
			boxes = append(boxes, b)
			if err := d.Decode(b); err != nil {
				return err
			}
			rejoin(b.Base, b.Root)
			rejoin(slices.Collect(maps.Values(b.Overlays))...)
			return nil
		}),
		c.store.read("snapshots", func(d *gob.Decoder) error {
			s := &savedTree{}
			if err := d.Decode(s); err != nil {
				return err
			}
			rejoin(s.Root)
			c.snapshots[s.ID] = s
			c.spend(s.Operation, s.ID)
			return nil
		}),
		c.store.read("volumes", func(d *gob.Decoder) error {
			v := &volume{}
			if err := d.Decode(v); err != nil {
				return err
			}
			rejoin(v.Root)
			c.volumes[volumeKey{v.Owner, v.Name}] = v
			return nil
		}),
	)
	if err != nil {
		return err
	}
	slices.SortFunc(boxes, func(a, b *box) int { return int(int64(a.Seq) - int64(b.Seq)) })
	for _, b := range boxes {
		c.seq = max(c.seq, b.Seq)
		if b.State == paused && (b.Kept.Memory || b.Kept.Processes) {
			b.Kept = keeps{Disk: true}
			b.Reason = "its processes ended with the plugin that ran them; files are kept"
		}
		c.index(b)
	}
	return nil
}

// forkIntents is the class of forks under way: the ids of the copies, by key.
const forkIntents = "forks"

// undoForks removes the copies of forks that were cut short.
func (c *cloud) undoForks() error {
	var copies [][]string
	err := c.store.read(forkIntents, func(d *gob.Decoder) error {
		copies = append(copies, nil)
		return d.Decode(&copies[len(copies)-1])
	})
	if err != nil {
		return err
	}
	for _, id := range slices.Concat(copies...) {
		if err := c.store.remove("sandboxes", id); err != nil {
			return err
		}
	}
	if c.store.dir == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(c.store.dir, forkIntents))
}

// fileName is safe for any owner.
func (v *volume) fileName() string { return hex.EncodeToString([]byte(v.Owner)) + "-" + v.Name }
