package handshake

import "time"

const (
	// FrameBytesHard is the payload above which a receiver refuses a frame.
	FrameBytesHard = 64 << 10
	// StdinWindowBytes is how far a client may send stdin ahead of the last
	// ExecStdinAck.next. Acknowledgements of output travel behind stdin on the
	// same stream, so a client that ignores the window delays its own.
	StdinWindowBytes = 1 << 20
	// StreamWindowBytes is the HTTP/2 flow-control window of a stream that both
	// ends set: with the default of 64 KiB a stream of full frames waits for window
	// updates most of the time.
	StreamWindowBytes = 1 << 20
	// ConnWindowBytes is the same for a connection, which several streams share.
	ConnWindowBytes = 4 << 20
	// SocketBufferBytes is the size of gRPC's read and write buffers.
	SocketBufferBytes = 128 << 10
)

// ProtocolMinor is the minor of the contract that this module implements.
const ProtocolMinor = 0

// EnvParentPID may be set by the host to its own process id. A plugin that finds
// another parent knows at once that it is orphaned, even when the host died
// before the plugin could look.
const EnvParentPID = "SANDBAR_PLUGIN_PARENT_PID"

// OrphanExit is the time within which a plugin ends after its host has died.
const OrphanExit = 10 * time.Second
