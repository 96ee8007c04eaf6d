package value

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// Location is one side of a copy: SANDBOX:/path, a path of this machine, or -.
type Location struct {
	// Sandbox is an id or name; empty for this machine.
	Sandbox string
	// Path is absolute and clean inside a sandbox, as written on this machine.
	Path string
	// Contents is set for PATH/. : what is in the folder, not the folder itself.
	Contents bool
	// Folder is set for PATH/ : the target must be a folder.
	Folder bool
}

// Stream reports whether the location is standard input or output.
func (l Location) Stream() bool { return l.Sandbox == "" && l.Path == "-" }

// UnmarshalText parses a location. A path of this machine with a colon in its
// first element is written ./a:b.
func (l *Location) UnmarshalText(text []byte) error {
	in := string(text)
	if in == "" {
		return errors.New("an empty path names nothing; write a path, SANDBOX:/path or -")
	}
	out := Location{Path: in}
	sandbox, p, has := strings.Cut(in, ":")
	if has && sandbox != "" && !strings.ContainsAny(sandbox, "/.") {
		if !strings.HasPrefix(p, "/") {
			return fmt.Errorf("path %q inside sandbox %q is not absolute; write %s:/path", p, sandbox, sandbox)
		}
		out.Sandbox, out.Path = sandbox, p
	}
	out.Contents = strings.HasSuffix(in, "/.")
	out.Folder = strings.HasSuffix(in, "/")
	if out.Sandbox != "" {
		out.Path = path.Clean(out.Path)
	}
	*l = out
	return nil
}
