package sdk

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime/debug"

	"github.com/sandbar-dev/sandbar/proto/pattern"
)

// guarded calls f and turns a panic into PLUGIN_BUG with the hash of the stack,
// which the log has in full (REQ-PROC-008).
func (s *Server) guarded(f func() error) (err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		stack := debug.Stack()
		hash := stackHash(stack)
		redact := s.secrets.Load()
		s.log.Error("the driver panicked", "panic", redact.redact(fmt.Sprint(p)), "stack_hash", hash, "stack", redact.redact(string(stack)))
		err = bug("the provider's driver panicked; its log has stack %s", hash).With("stack", hash)
	}()
	return f()
}

// volatile is what differs between two panics at the same place.
var volatile = pattern.Lazy(`goroutine \d+|0x[0-9a-f]+|in goroutine \d+`)

func stackHash(stack []byte) string {
	sum := sha256.Sum256(volatile().ReplaceAll(stack, nil))
	return hex.EncodeToString(sum[:8])
}
