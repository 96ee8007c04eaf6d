package sdk

import (
	"crypto/sha256"
	"strconv"
	"strings"
	"unicode/utf8"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/pattern"
)

// What the contract says about names.
var (
	idPattern     = pattern.Lazy(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	keyPattern    = pattern.Lazy(`^[A-Za-z0-9]{26}$`)
	labelPattern  = pattern.Lazy(`^[a-z0-9A-Z._/-]{1,63}$`)
	volumePattern = pattern.Lazy(`^[a-z0-9][a-z0-9._-]{0,62}$`)
	envPattern    = pattern.Lazy(`^[^=\x00]+$`)
	hostPattern   = pattern.Lazy(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
	userPattern   = pattern.Lazy(`^([A-Za-z_][A-Za-z0-9_.-]{0,31}|[0-9]{1,10}(:[0-9]{1,10})?)$`)
)

const (
	maxOwner      = 255
	maxLabelValue = 255
	maxPath       = 4096
)

func (v *violations) id(field, id string) {
	if !idPattern().MatchString(id) {
		v.add(field, id, "want 1 to 128 letters, digits, '.', '_' or '-'")
	}
}

func (v *violations) owner(field, owner string) {
	if owner == "" || len(owner) > maxOwner || strings.ContainsFunc(owner, isControl) || !utf8.ValidString(owner) {
		v.add(field, owner, "want the broker's id, 1 to 255 bytes without control characters")
	}
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func (v *violations) ref(ref *providerv1.SandboxRef) { v.refAt("sandbox", ref) }

func (v *violations) refAt(field string, ref *providerv1.SandboxRef) {
	v.id(field+".sandbox_id", ref.GetSandboxId())
	v.handle(field+".handle", ref.GetHandle())
}

func (v *violations) handle(field string, h *providerv1.Handle) {
	if n := len(h.GetData()); n > maxHandle {
		v.add(field+".data", strconv.Itoa(n)+" bytes", "want at most "+strconv.Itoa(maxHandle))
	}
}

func (v *violations) operation(op *providerv1.Operation) {
	v.key("operation.idempotency_key", op.GetIdempotencyKey())
	v.digest("operation.request_digest", op.GetRequestDigest())
}

func (v *violations) key(field, key string) {
	if !keyPattern().MatchString(key) {
		v.add(field, key, "want 26 base32 characters")
	}
}

func (v *violations) digest(field string, digest []byte) {
	if len(digest) != sha256.Size {
		v.add(field, strconv.Itoa(len(digest))+" bytes", "want a SHA-256, 32 bytes")
	}
}

func (v *violations) identity(field string, id *providerv1.Identity) {
	v.id(field+".sandbox_id", id.GetSandboxId())
	v.owner(field+".owner", id.GetOwner())
	v.labels(field+".labels", id.GetLabels())
}

func (v *violations) labels(field string, labels map[string]string) {
	for key, value := range labels {
		if !labelPattern().MatchString(key) {
			v.add(field, key, "want a key that matches [a-z0-9A-Z._/-]{1,63}")
		}
		if len(value) > maxLabelValue || !utf8.ValidString(value) {
			v.add(field+"["+key+"]", value, "want at most 255 bytes of UTF-8")
		}
	}
}

func (v *violations) volume(field, name string) {
	if !volumePattern().MatchString(name) {
		v.add(field, name, "want a name that matches [a-z0-9][a-z0-9._-]{0,62}")
	}
}

// path wants an absolute path inside the sandbox. Dots are the sandbox's to
// resolve, with its own links.
func (v *violations) path(field, path string) {
	switch {
	case !strings.HasPrefix(path, "/"):
		v.add(field, path, "want an absolute path")
	case strings.ContainsRune(path, 0):
		v.add(field, strings.ReplaceAll(path, "\x00", `\0`), "want a path without NUL")
	case len(path) > maxPath:
		v.add(field, path, "want at most "+strconv.Itoa(maxPath)+" bytes")
	}
}

func (v *violations) optionalPath(field, path string) {
	if path != "" {
		v.path(field, path)
	}
}

func (v *violations) user(field, user string) {
	if user != "" && !userPattern().MatchString(user) {
		v.add(field, user, "want a name, a uid, or uid:gid")
	}
}

// env never quotes values: they are where people put secrets.
func (v *violations) env(field string, env map[string]string) {
	for name, value := range env {
		if !envPattern().MatchString(name) {
			v.add(field, strings.ReplaceAll(name, "\x00", `\0`), "want a name that is not empty and has no '=' and no NUL")
		}
		if strings.ContainsRune(value, 0) {
			v.add(field+"["+name+"]", "", "want a value without NUL")
		}
	}
}

const maxPort = 65535

func (v *violations) port(field string, port uint32) {
	if port < 1 || port > maxPort {
		v.add(field, strconv.FormatUint(uint64(port), 10), "want a port from 1 to 65535")
	}
}

func (v *violations) atLeastZero(field string, n int64) {
	if n < 0 {
		v.add(field, strconv.FormatInt(n, 10), "want 0 or more")
	}
}

func (v *violations) signal(field string, signal providerv1.ExecSignal) {
	_, known := providerv1.ExecSignal_name[int32(signal)]
	if signal == providerv1.ExecSignal_EXEC_SIGNAL_UNSPECIFIED || !known {
		v.add(field, signal.String(), "want a signal by name, such as EXEC_SIGNAL_TERM")
	}
}
