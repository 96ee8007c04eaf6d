package broker

import (
	"context"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker/telemetry"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/relay"
)

// flow counts what goes over one stream, and sees a command end.
type flow struct {
	*telemetry.Stream
	exec  bool
	ended atomic.Bool
}

func (l *lease) flow(ctx context.Context, kind telemetry.StreamKind) *flow {
	return &flow{Stream: l.s.metrics.Stream(ctx, l.Name(), kind), exec: kind == telemetry.ExecStream}
}

// up counts a message towards the sandbox.
func (f *flow) up(msg any) {
	if m, ok := msg.(proto.Message); ok {
		f.In(proto.Size(m))
	}
}

// down counts a message from the sandbox.
func (f *flow) down(msg any) {
	m, ok := msg.(proto.Message)
	if !ok {
		return
	}
	f.Out(proto.Size(m))
	if out, ok := msg.(*providerv1.AttachExecResponse); ok {
		f.look(out.GetOutput())
	}
}

// bulkOfOutput is where the output of a command is: AttachExecResponse.output,
// ExecOutput.data, ExecData.data.
var bulkOfOutput = []protowire.Number{1, 2, 3}

// downFrame is down for a message as it came. Of a command only what is not plainly
// output is decoded: a handful of messages.
func (f *flow) downFrame(frame *relay.Frame) {
	f.Out(frame.Len())
	if !f.exec || f.ended.Load() || frame.Bulk(bulkOfOutput...) {
		return
	}
	var out providerv1.AttachExecResponse
	if frame.Decode(&out) == nil { // what cannot be decoded is the client's to complain of
		f.look(out.GetOutput())
	}
}

// look counts the end of a command once; Done repeats what Exit said.
func (f *flow) look(out *providerv1.ExecOutput) {
	exit := out.GetExit()
	if exit == nil {
		exit = out.GetDone().GetExit()
	}
	if exit != nil && !f.ended.Swap(true) {
		f.Ended(exit.GetCause())
	}
}
