package handshake

import (
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"
)

// frameOverhead is more than the fields around the payload of a frame take.
const frameOverhead = 1 << 10

// gRPC keeps buffers of a few sizes and clears the whole of each before it hands
// it out. Its sizes go from 32 KiB to 1 MiB, so that a full frame, which is a
// little longer than its payload of 32 KiB, had a whole mebibyte cleared for it,
// several times on its way: a third of the time of plugins and shims. Its codec
// takes the default pool only, so this cannot be an option of a connection; gRPC
// asks that the pool be set by an init function.
func init() {
	experimental.SetDefaultBufferPool(mem.NewTieredBufferPool(
		256, 4<<10, 16<<10, FrameBytes+frameOverhead, FrameBytesHard+frameOverhead, 256<<10, 1<<20))
}
