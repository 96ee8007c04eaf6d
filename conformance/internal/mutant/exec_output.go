package mutant

import (
	"bytes"
	"io"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func outputMutants() []Mutant {
	return []Mutant{
		{
			ID: "exec/stdout-stderr~truncated", Kills: "exec/stdout-stderr",
			Bug: "of standard error only the first 300 bytes are kept",
			Driver: command(func(c started) sdk.Process {
				if c.Stderr() == nil {
					return c.Process
				}
				left := 300
				return &spoiled{Process: c.Process, stderr: editedReader{c.Stderr(), func(b []byte) []byte {
					b = b[:min(left, len(b))]
					left -= len(b)
					return b
				}}}
			}),
		},
		{
			ID: "exec/binary-safe~text", Kills: "exec/binary-safe",
			Bug: "standard error is taken for UTF-8, and what is none is replaced",
			Driver: command(func(c started) sdk.Process {
				if c.Stderr() == nil {
					return c.Process
				}
				return &spoiled{Process: c.Process, stderr: editedReader{c.Stderr(), func(b []byte) []byte {
					return bytes.ReplaceAll(b, []byte{0xff}, []byte("?"))
				}}}
			}),
		},
		{
			ID: "exec/last-line~trimmed", Kills: "exec/last-line",
			Bug: "empty lines at the end of output are cut off",
			Driver: command(func(c started) sdk.Process {
				return &spoiled{Process: c.Process, stdout: &trimmedReader{inner: c.Stdout()}}
			}),
		},
		{
			ID: "exec/large-output~tail", Kills: "exec/large-output", Also: []string{"exec/duplex", "exec/drop-oldest-reader"},
			Bug: "of more than 2 MiB of output, the last bytes are lost",
			Driver: command(func(c started) sdk.Process {
				return &spoiled{Process: c.Process, stdout: &shortReader{inner: c.Stdout(), above: 2 << 20, lost: 100}}
			}),
		},
		{
			ID: "exec/done-last~totals", Kills: "exec/done-last",
			Bug: "Done counts only the streams that the attachment asked for",
			Stream: attaching(func(a *attachment) {
				a.out = func(f *output) []*output {
					if d := f.GetDone(); d != nil && a.open.GetStdoutFrom() < 0 {
						d.StdoutTotal = 0
					}
					return []*output{f}
				}
			}),
		},
	}
}

// trimmedReader holds back newlines after a newline until more comes.
type trimmedReader struct {
	inner   io.Reader
	ended   bool // the last byte that was handed on is a newline
	held    int
	pending []byte
	err     error
}

// Read implements io.Reader.
func (r *trimmedReader) Read(b []byte) (int, error) {
	for len(r.pending) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		buf := make([]byte, len(b))
		n, err := r.inner.Read(buf)
		r.err = err
		for _, c := range buf[:n] {
			if c == '\n' && r.ended {
				r.held++
				continue
			}
			r.pending = append(append(r.pending, bytes.Repeat([]byte("\n"), r.held)...), c)
			r.held, r.ended = 0, c == '\n'
		}
	}
	n := copy(b, r.pending)
	r.pending = r.pending[n:]
	return n, nil
}

// shortReader loses the end of what is long.
type shortReader struct {
	inner       io.Reader
	above, lost int
	total       int
	held        []byte
}

// Read implements io.Reader.
func (r *shortReader) Read(b []byte) (int, error) {
	buf := make([]byte, len(b))
	n, err := r.inner.Read(buf)
	r.total += n
	if r.total <= r.above {
		return copy(b, buf[:n]), err
	}
	r.held = append(r.held, buf[:n]...)
	n = copy(b, r.held[:max(0, len(r.held)-r.lost)])
	r.held = r.held[n:]
	return n, err
}

func paceMutants() []Mutant {
	return []Mutant{
		{
			ID: "exec/backpressure~hoard", Kills: "exec/backpressure", Also: []string{"exec/backpressure-unacknowledged", "exec/slow-reader"},
			Bug: "the plugin takes all output into memory, whether or not anybody reads it",
			Driver: command(func(c started) sdk.Process {
				return &spoiled{Process: c.Process, stdout: newHoard(c.Stdout())}
			}),
		},
		{
			ID: "exec/backpressure-unacknowledged~first-lost", Kills: "exec/backpressure-unacknowledged",
			Bug: "the first acknowledgement of an attachment is not heard",
			Stream: attaching(func(a *attachment) {
				acks := 0
				a.in = func(f *input) []*input {
					if f.GetAck() != nil {
						acks++
					}
					return heard(f, f.GetAck() == nil || acks > 1)
				}
			}),
		},
		{
			ID: "exec/drop-oldest~blocks", Kills: "exec/drop-oldest", Also: []string{"exec/drop-oldest-reader"},
			Bug:   "the policy DROP_OLDEST is ignored",
			Unary: starting(func(s *providerv1.ExecSpec) { s.OutputPolicy = providerv1.OutputPolicy_OUTPUT_POLICY_UNSPECIFIED }),
		},
		{
			ID: "exec/drop-oldest~not-counted", Kills: "exec/drop-oldest", Also: []string{"exec/drop-oldest-reader"},
			Bug: "Done does not count what is missing",
			Stream: printing(func(f *output) {
				if f.GetDone() != nil {
					f.GetDone().StdoutMissing = 0
				}
			}),
		},
		{
			ID: "exec/drop-oldest-reader~fault", Kills: "exec/drop-oldest-reader",
			Bug:    "a reader that misses dropped bytes is ended with an error",
			Stream: jumpIsFault(),
		},
		{
			ID: "exec/slow-reader~one-window", Kills: "exec/slow-reader", Also: []string{"exec/backpressure-unacknowledged"},
			Bug:    "everything that is sent from one sandbox waits for a reader that stopped",
			Stream: oneWindow(),
		},
		{
			ID: "exec/slow-reader-memory~hoard", Kills: "exec/slow-reader-memory",
			Also: []string{"exec/backpressure", "exec/backpressure-unacknowledged", "exec/slow-reader"},
			Bug:  "the plugin takes all output into memory as fast as it comes",
			Driver: command(func(c started) sdk.Process {
				return &spoiled{Process: c.Process, stdout: newHoard(c.Stdout())}
			}),
		},
	}
}

// jumpIsFault ends an attachment where its offsets jump.
func jumpIsFault() grpc.StreamServerInterceptor {
	lost := fault.New(providerv1.ErrorReason_ERROR_REASON_OUTPUT_TRUNCATED, "output was dropped").ToProto()
	return attaching(func(a *attachment) {
		next, ended := int64(-1), false
		a.out = func(f *output) []*output {
			d := f.GetData()
			if ended {
				return nil
			}
			if d == nil || d.GetStream() != providerv1.ExecStream_EXEC_STREAM_STDOUT {
				return []*output{f}
			}
			if ended = next >= 0 && d.GetOffset() > next; ended {
				return []*output{{Frame: &providerv1.ExecOutput_Fault{Fault: lost}}}
			}
			next = d.GetOffset() + int64(len(d.GetData()))
			return []*output{f}
		}
	})
}
