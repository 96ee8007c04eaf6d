package subject

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/proto/fault"
)

// Call is what was said in one call.
type Call struct {
	Method string
	At     time.Time
	Took   time.Duration
	// Sent and Received are JSON, cut where they are long. Of a stream they hold
	// the first frames, and Frames says how many there were.
	Sent, Received []string
	Frames         int
	// Error is code, reason, message and metadata; empty for OK.
	Error string
}

const (
	// maxText cuts a message in a transcript.
	maxText = 1500
	// maxFrames is how many frames of a stream a transcript holds.
	maxFrames = 40
	// maxCalls bounds the transcript of one case.
	maxCalls = 2000
)

// Recorder is a connection that remembers what went through it. It is safe for
// concurrent use.
type Recorder struct {
	conn   grpc.ClientConnInterface
	shared *recorded
}

// recorded is what the recorders of one case have in common.
type recorded struct {
	ledger  *Ledger
	mu      sync.Mutex
	calls   []*Call
	objects []Object
}

// NewRecorder records what goes through conn, and reports what is made to the
// ledger.
func NewRecorder(conn grpc.ClientConnInterface, ledger *Ledger) *Recorder {
	return &Recorder{conn: conn, shared: &recorded{ledger: ledger}}
}

// For is a recorder for another connection that shares everything recorded.
func (r *Recorder) For(conn grpc.ClientConnInterface) *Recorder {
	return &Recorder{conn: conn, shared: r.shared}
}

// Calls returns copies of the last calls, or of all if last is 0.
func (r *Recorder) Calls(last int) []Call {
	r.shared.mu.Lock()
	defer r.shared.mu.Unlock()
	calls := r.shared.calls
	if last > 0 && len(calls) > last {
		calls = calls[len(calls)-last:]
	}
	out := make([]Call, len(calls))
	for i, c := range calls {
		out[i] = *c
	}
	return out
}

// begin notes a call before anything is sent, so that what a lost answer made is
// known.
func (r *Recorder) begin(method string, request any) *Call {
	c := &Call{Method: method[strings.LastIndexByte(method, '/')+1:], At: time.Now()}
	objects := asked(request)
	r.shared.ledger.add(objects...)
	r.shared.mu.Lock()
	defer r.shared.mu.Unlock()
	if request != nil {
		c.Sent = append(c.Sent, brief(request))
	}
	r.shared.objects = append(r.shared.objects, objects...)
	if len(r.shared.calls) < maxCalls {
		r.shared.calls = append(r.shared.calls, c)
	}
	return c
}

func (r *Recorder) end(c *Call, reply any, err error) {
	r.shared.mu.Lock()
	defer r.shared.mu.Unlock()
	c.Took = time.Since(c.At)
	if err != nil {
		c.Error = Describe(err)
		return
	}
	if reply != nil {
		c.Received = append(c.Received, brief(reply))
	}
}

// Invoke implements grpc.ClientConnInterface.
func (r *Recorder) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	cancel := func() {}
	if limit := Deadline(method); !sooner(ctx, limit) {
		ctx, cancel = context.WithTimeout(ctx, limit)
	}
	defer cancel()
	c := r.begin(method, args)
	err := r.conn.Invoke(ctx, method, args, reply, opts...)
	r.end(c, reply, err)
	return err
}

// sooner reports whether ctx ends before a time limit would.
func sooner(ctx context.Context, limit time.Duration) bool {
	at, ok := ctx.Deadline()
	return ok && time.Until(at) <= limit
}

// NewStream implements grpc.ClientConnInterface.
func (r *Recorder) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	c := r.begin(method, nil)
	stream, err := r.conn.NewStream(ctx, desc, method, opts...)
	if err != nil {
		r.end(c, nil, err)
		return nil, err
	}
	return &recordedStream{ClientStream: stream, rec: r, call: c}, nil
}

type recordedStream struct {
	grpc.ClientStream
	rec  *Recorder
	call *Call
}

// SendMsg implements grpc.ClientStream.
func (s *recordedStream) SendMsg(m any) error {
	s.note(&s.call.Sent, m)
	return s.ClientStream.SendMsg(m)
}

// RecvMsg implements grpc.ClientStream.
func (s *recordedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil {
		s.note(&s.call.Received, m)
		return nil
	}
	if errors.Is(err, io.EOF) {
		s.rec.end(s.call, nil, nil)
	} else {
		s.rec.end(s.call, nil, err)
	}
	return err
}

func (s *recordedStream) note(to *[]string, m any) {
	s.rec.shared.mu.Lock()
	defer s.rec.shared.mu.Unlock()
	s.call.Frames++
	if len(*to) < maxFrames {
		*to = append(*to, brief(m))
	}
}

// brief is a message as a person can read it.
func brief(m any) string {
	msg, ok := m.(proto.Message)
	if !ok {
		return fmt.Sprintf("%T", m)
	}
	if proto.Size(msg) > maxText {
		// Rendering a frame of data costs more than the whole case.
		return fmt.Sprintf("%s of %d bytes", msg.ProtoReflect().Descriptor().Name(), proto.Size(msg))
	}
	text, err := protojson.Marshal(redacted(msg))
	if err != nil {
		return fmt.Sprintf("%s that is no JSON: %v", msg.ProtoReflect().Descriptor().Name(), err)
	}
	if len(text) > maxText {
		return string(text[:maxText]) + "…"
	}
	return string(text)
}

// Describe puts an error into words: everything a person needs to see which
// promise it breaks.
func Describe(err error) string {
	if err == nil {
		return "OK"
	}
	f := fault.From(err)
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %q effect=%s", f.Code(), fault.Name(f.Reason), f.Message, fault.EffectName(f.Effect))
	if !f.Wire {
		b.WriteString(" (no ErrorInfo)")
	}
	for _, k := range sortedKeys(f.Metadata) {
		fmt.Fprintf(&b, " %s=%q", k, f.Metadata[k])
	}
	if f.RetryAfter > 0 {
		fmt.Fprintf(&b, " retry_after=%s", f.RetryAfter)
	}
	return b.String()
}

func sortedKeys(m map[string]string) []string {
	return slices.Sorted(maps.Keys(m))
}
