// Package relay passes messages of a gRPC stream on without decoding them. Who
// hands a stream from one connection to another needs the first message to know
// where to; behind that most of the work would be to decode each message, copying
// its payload into fresh memory, and to encode it again.
//
//	up, err := client.AttachExec(ctx, relay.Call())
//	…
//	err = relay.Copy(stream, up)
//
// A Frame is such a message. The connection's caps hold for it as for any other,
// as they count bytes. Guards that look into messages do not see it: a relay that
// has guards asks Frame.Bulk whether the frame is plainly payload, and decodes it
// if not.
//
// Codec is what both ends need: Call makes a client's stream use it, and
// grpc.ForceServerCodecV2 a server. It is the usual codec for all but frames.
package relay
