package value

import (
	"fmt"
	"path"
	"strings"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// HostMount is SRC:DST[:ro|rw|overlay]. SRC may hold colons: DST starts at the
// last ":/".
type HostMount struct {
	Source string
	Target string
	// Mode is UNSPECIFIED when none was written.
	Mode providerv1.MountMode
}

// UnmarshalText parses a mount of a host folder or file.
func (m *HostMount) UnmarshalText(text []byte) error {
	source, target, mode, err := splitMount(string(text), "SRC", "ro, rw or overlay")
	if err != nil {
		return err
	}
	*m = HostMount{Source: source, Target: target, Mode: mode}
	return nil
}

// VolumeMount is NAME:DST[:ro|rw].
type VolumeMount struct {
	Name   string
	Target string
	Mode   providerv1.MountMode
}

// UnmarshalText parses a mount of a volume; the mode is RW when none is written.
func (m *VolumeMount) UnmarshalText(text []byte) error {
	name, target, mode, err := splitMount(string(text), "NAME", "ro or rw")
	if err != nil {
		return err
	}
	if strings.Contains(name, "/") {
		return fmt.Errorf("%q is not the name of a volume; folders of this machine go to --mount", name)
	}
	switch mode {
	case providerv1.MountMode_MOUNT_MODE_OVERLAY:
		return fmt.Errorf("%q: a volume is mounted ro or rw, not overlay", text)
	case providerv1.MountMode_MOUNT_MODE_UNSPECIFIED:
		mode = providerv1.MountMode_MOUNT_MODE_RW
	}
	*m = VolumeMount{Name: name, Target: target, Mode: mode}
	return nil
}

var mountModes = map[string]providerv1.MountMode{
	"ro":      providerv1.MountMode_MOUNT_MODE_RO,
	"rw":      providerv1.MountMode_MOUNT_MODE_RW,
	"overlay": providerv1.MountMode_MOUNT_MODE_OVERLAY,
}

func splitMount(in, what, modes string) (source, target string, mode providerv1.MountMode, err error) {
	at := strings.LastIndex(in, ":/")
	if at <= 0 {
		return "", "", 0, fmt.Errorf("%q is not a mount; write %s:/absolute/path[:MODE]", in, what)
	}
	source, target = in[:at], in[at+1:]
	if name, after, ok := cutLast(target, ":"); ok {
		var known bool
		if mode, known = mountModes[after]; !known {
			return "", "", 0, fmt.Errorf("mode %q of mount %q is unknown; write %s", after, in, modes)
		}
		target = name
	}
	return source, path.Clean(target), mode, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
