package pluginhost

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// Trust says what must be known about a binary before it may run.
type Trust uint8

const (
	// TrustLock runs only what the lock file records. It is the default.
	TrustLock Trust = iota
	// TrustFirstUse records an unknown binary when it is first run, and from then
	// on runs only that.
	TrustFirstUse
	// TrustLocation runs what lies there. It is for the folder of the sandbar
	// executable itself: whoever can write there can replace sandbar, so a digest
	// would protect nothing, and an upgrade replaces all of it together.
	TrustLocation
)

// Dir is a folder that is searched for binaries.
type Dir struct {
	Path  string
	Trust Trust
}

// Binary is a plugin that was found and not run.
type Binary struct {
	// Name is that of the provider.
	Name string
	// Path is absolute.
	Path  string
	Trust Trust
}

// Discover lists the binaries of configured providers that name theirs, and
// those in dirs, sorted by name. Of several with one name it returns the one that
// a Host would run: the configured one, else that in the earliest folder. A
// folder that does not exist holds none.
func Discover(dirs []Dir, configured ...Config) ([]Binary, error) {
	found := map[string]Binary{}
	for _, c := range configured {
		if c.Binary == "" {
			continue
		}
		b, err := find(nil, c)
		if err != nil {
			return nil, err
		}
		found[b.Name] = b
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir.Path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("search plugin folder: %w", err)
		}
		for _, e := range entries {
			name, ok := strings.CutPrefix(e.Name(), handshake.BinaryPrefix)
			path := filepath.Join(dir.Path, e.Name())
			if _, earlier := found[name]; earlier || !ok || !handshake.ValidName(name) || !executable(path) {
				continue
			}
			found[name] = Binary{Name: name, Path: path, Trust: dir.Trust}
		}
	}
	out := make([]Binary, 0, len(found))
	for _, b := range found {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b Binary) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// find returns the binary of a configured provider.
func find(dirs []Dir, c Config) (Binary, error) {
	if c.Binary != "" {
		path, err := filepath.Abs(c.Binary)
		if err != nil {
			return Binary{}, fmt.Errorf("binary of provider %q: %w", c.Name, err)
		}
		return Binary{Name: c.Name, Path: path, Trust: c.Trust}, nil
	}
	var searched []string
	for _, dir := range dirs {
		path := filepath.Join(dir.Path, handshake.BinaryPrefix+c.Name)
		if executable(path) {
			return Binary{Name: c.Name, Path: path, Trust: dir.Trust}, nil
		}
		searched = append(searched, dir.Path)
	}
	return Binary{}, fmt.Errorf("provider %q: there is no executable %s%s in %s",
		c.Name, handshake.BinaryPrefix, c.Name, strings.Join(searched, ", "))
}

// open opens a binary for running, checked as its trust demands. The digest is
// "" for TrustLocation, where nobody waits for it.
func (b Binary) open(lockFile string) (program *os.File, digest string, err error) {
	program, err = openProgram(b.Path)
	if err != nil {
		return nil, "", fmt.Errorf("provider %q: %w", b.Name, err)
	}
	defer func() {
		if err != nil {
			_ = program.Close()
		}
	}()
	if err = b.guarded(program); err != nil || b.Trust == TrustLocation {
		return program, "", err
	}
	pin, err := pinOf(program)
	if err != nil {
		return nil, "", fmt.Errorf("provider %q: %w", b.Name, err)
	}
	if b.Trust == TrustFirstUse {
		return program, pin.SHA256, admit(lockFile, b, pin)
	}
	lock, err := ReadLock(lockFile)
	if err != nil {
		return nil, "", err
	}
	return program, pin.SHA256, lock.check(b, pin)
}

// guarded refuses what any user of the machine could have replaced.
func (b Binary) guarded(program *os.File) error {
	info, err := program.Stat()
	if err != nil {
		return fmt.Errorf("provider %q: %w", b.Name, err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("provider %q: %s is not a regular file", b.Name, b.Path)
	}
	if info.Mode()&0o002 != 0 {
		return fmt.Errorf("provider %q: %s has mode %s: everybody may write to it; run chmod o-w on it", b.Name, b.Path, info.Mode())
	}
	dir, err := os.Stat(filepath.Dir(b.Path))
	if err != nil {
		return fmt.Errorf("provider %q: %w", b.Name, err)
	}
	if dir.Mode()&0o002 != 0 && dir.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("provider %q: the folder of %s has mode %s: everybody may replace what is in it; run chmod o-w on it", b.Name, b.Path, dir.Mode())
	}
	return nil
}

// pinOf reads a whole binary, whatever its offset is, and moves nothing.
func pinOf(program *os.File) (Pin, error) {
	info, err := program.Stat()
	if err != nil {
		return Pin{}, fmt.Errorf("hash: %w", err)
	}
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(program, 0, info.Size()))
	if err != nil {
		return Pin{}, fmt.Errorf("hash: %w", err)
	}
	return Pin{SHA256: hex.EncodeToString(h.Sum(nil)), Size: n}, nil
}
