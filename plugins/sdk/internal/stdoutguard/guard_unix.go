//go:build unix

package stdoutguard

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// saved is the real standard output, or nil where nothing was redirected.
var saved = redirect()

func redirect() *os.File {
	if os.Getenv(handshake.CookieKey) != handshake.CookieValue { //nolint:forbidigo // the handshake is an environment protocol
		return nil
	}
	fd, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil // standard output is closed: there is nothing to keep clean
	}
	if err := unix.Dup2(2, 1); err != nil {
		_ = unix.Close(fd)
		return nil
	}
	return os.NewFile(uintptr(fd), "stdout")
}

// Handshake makes os.Stdout the real standard output again, for the one line
// that go-plugin prints to it. Descriptor 1 stays at standard error, so that
// code which writes to it directly still cannot harm the handshake.
func Handshake() {
	if saved != nil {
		os.Stdout = saved //nolint:forbidigo // the handshake's owner
	}
}
