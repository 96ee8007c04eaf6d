package handshake

import "time"

// The cookie tells a plugin that a host started it. It is a courtesy to people
// who run the binary by hand, not a secret.
const (
	CookieKey   = "SANDBAR_PLUGIN"
	CookieValue = "b2f6c1d09a7e4e53a1f8d4c76390be25"
)

const (
	// ProtocolMajor is the version negotiated in the handshake.
	ProtocolMajor = 1
	// PluginName is the key of the only plugin kind in the plugin set.
	PluginName = "provider"
	// BinaryPrefix and a provider's name make the name of its binary.
	BinaryPrefix = "sandbar-provider-"
	// DescribeFlag makes a plugin binary print its manifest and exit 0.
	DescribeFlag = "--describe"
)

const (
	// MaxMessageBytes caps a message in both directions, at both ends. Whatever
	// can be larger is streamed; an unlimited peer is how a host runs out of
	// memory.
	MaxMessageBytes = 4 << 20
	// FrameBytes is the payload of one frame of a stream. Larger frames gain no
	// throughput on a socket and cost fairness.
	FrameBytes = 32 << 10
)

const (
	// KeepaliveTime is how long a connection may be silent before the host pings.
	KeepaliveTime = 10 * time.Second
	// KeepaliveTimeout is how long the answer may take.
	KeepaliveTimeout = 3 * time.Second
	// KeepaliveMinTime is what a plugin must tolerate, without calls in flight
	// too; with less, its server cuts idle streams with too_many_pings.
	KeepaliveMinTime = 5 * time.Second
)
