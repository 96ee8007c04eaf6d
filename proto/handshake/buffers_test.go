package handshake_test

import (
	"testing"

	"google.golang.org/grpc/mem"

	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// A full frame gets a buffer of about its own size: gRPC clears all of a buffer
// for each message, and its own next size is 1 MiB.
func TestBuffersFitFrames(t *testing.T) {
	for _, payload := range []int{handshake.FrameBytes, handshake.FrameBytesHard} {
		const fields = 64 // around the payload
		buf := mem.DefaultBufferPool().Get(payload + fields)
		if got, most := cap(*buf), payload+payload/16; got > most {
			t.Errorf("a frame with %d bytes gets a buffer of %d, want at most %d", payload, got, most)
		}
		mem.DefaultBufferPool().Put(buf)
	}
}
