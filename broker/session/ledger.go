package session

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

const (
	stdout = 0
	stderr = 1
)

var streamNames = [2]string{"stdout", "stderr"}

// ackBytes of delivered output are acknowledged without waiting for more.
const ackBytes = 128 << 10

// Ledger keeps the offsets of one command across attachments. It is pure: frames
// go in by Accept and come out by Next, and nothing else happens. It is not safe
// for concurrent use.
type Ledger struct {
	open   *providerv1.ExecOpen
	opened bool // on the present attachment

	out  [2]output
	in   input
	exit *providerv1.ExitStatus
	done bool

	size     *providerv1.ExecResize
	sizeSent bool
	signals  []providerv1.ExecSignal
}

// output is one stream of output.
type output struct {
	wanted    bool
	next      int64 // of the next byte to come
	delivered int64
	acked     int64
	missing   int64
	eof       bool
}

// Chunk is output to deliver.
type Chunk struct {
	Stream providerv1.ExecStream
	// Data is valid until the frame it came in is reused.
	Data []byte
	// Gap is how many bytes before Data are lost for good.
	Gap int64
}

// NewLedger starts where open says. open is not changed.
func NewLedger(open *providerv1.ExecOpen) *Ledger {
	l := &Ledger{open: proto.CloneOf(open), in: input{wanted: open.GetStdin()}}
	for i, from := range [2]int64{open.GetStdoutFrom(), open.GetStderrFrom()} {
		l.out[i] = output{wanted: from >= 0, next: from, delivered: from, acked: from}
	}
	return l
}

// Open begins an attachment: it returns its first frame and forgets what was only
// on its way.
func (l *Ledger) Open() *providerv1.ExecInput {
	l.opened = false
	open := proto.CloneOf(l.open)
	for i, from := range [2]*int64{&open.StdoutFrom, &open.StderrFrom} {
		l.out[i].next, l.out[i].acked = l.out[i].delivered, l.out[i].delivered
		*from = l.out[i].delivered
		if l.out[i].eof { // there is no more of it
			*from = -1
		}
	}
	open.Stdin = l.open.GetStdin() && !l.in.gone
	return &providerv1.ExecInput{Frame: &providerv1.ExecInput_Open{Open: open}}
}

// SkipEvicted lets the next attachment begin at the oldest output that there still
// is; what was before that counts as missing. It reports whether that is news.
func (l *Ledger) SkipEvicted() bool {
	if l.open.GetFromOldest() {
		return false
	}
	l.open.FromOldest = true
	return true
}

// Accept takes one frame. It returns the output in it, if any, which the caller
// delivers and then reports by Delivered. A *fault.Error that the frame carries
// is returned as it is; any other error means that the peer broke the protocol.
func (l *Ledger) Accept(frame *providerv1.ExecOutput) (*Chunk, error) {
	if l.done {
		return nil, violation("a frame came after Done")
	}
	if f := frame.GetFault(); f != nil {
		return nil, fault.FromProto(f)
	}
	if o := frame.GetOpened(); o != nil {
		return nil, l.acceptOpened(o)
	}
	if !l.opened {
		return nil, violation("the first frame is not Opened")
	}
	switch f := frame.GetFrame().(type) {
	case *providerv1.ExecOutput_Data:
		return l.acceptData(f.Data)
	case *providerv1.ExecOutput_StdinAck:
		return nil, l.in.acknowledged(f.StdinAck)
	case *providerv1.ExecOutput_Exit:
		l.exit = f.Exit
		return nil, nil //nolint:nilnil // most frames hold no output
	case *providerv1.ExecOutput_Done:
		return nil, l.acceptDone(f.Done)
	default:
		return nil, nil //nolint:nilnil // a frame of a newer minor
	}
}

func (l *Ledger) acceptOpened(o *providerv1.ExecOpened) error {
	if l.opened {
		return violation("Opened came twice")
	}
	for i, from := range [2]int64{o.GetStdoutFrom(), o.GetStderrFrom()} {
		s := &l.out[i]
		if !s.wanted || s.eof {
			continue
		}
		if from < s.next {
			return violation("%s was opened at %d, asked for %d", streamNames[i], from, s.next)
		}
		s.missing += from - s.next
		s.next, s.delivered, s.acked = from, from, from
	}
	if err := l.in.reopen(o.GetStdinNext()); err != nil {
		return err
	}
	l.opened, l.sizeSent = true, false
	return nil
}

func (l *Ledger) acceptData(d *providerv1.ExecData) (*Chunk, error) {
	i := int(d.GetStream()) - 1
	if i != stdout && i != stderr {
		return nil, violation("data of stream %d", d.GetStream())
	}
	s := &l.out[i]
	data := d.GetData()
	switch {
	case !s.wanted:
		return nil, violation("%s came and was not asked for", streamNames[i])
	case len(data) > handshake.FrameBytesHard:
		return nil, violation("a frame of %s has %d bytes, want at most %d", streamNames[i], len(data), handshake.FrameBytesHard)
	case s.eof && d.GetOffset()+int64(len(data)) > s.next:
		return nil, violation("%s went on after its end", streamNames[i])
	}
	c := &Chunk{Stream: d.GetStream()}
	if again := s.next - d.GetOffset(); again > 0 { // delivered already
		data = data[min(again, int64(len(data))):]
	} else {
		c.Gap = -again
		s.missing += c.Gap
	}
	c.Data = data
	s.next += c.Gap + int64(len(data))
	s.eof = s.eof || d.GetEof()
	if len(data) == 0 && c.Gap == 0 {
		return nil, nil //nolint:nilnil // nothing to deliver
	}
	return c, nil
}

// Delivered says that the output of a chunk reached its reader.
func (l *Ledger) Delivered(c *Chunk) {
	l.out[int(c.Stream)-1].delivered += c.Gap + int64(len(c.Data))
}

func (l *Ledger) acceptDone(d *providerv1.ExecDone) error {
	for i, total := range [2]int64{d.GetStdoutTotal(), d.GetStderrTotal()} {
		s := &l.out[i]
		if !s.wanted {
			continue
		}
		if s.next > total {
			return violation("%s ends at %d, after %d bytes were received", streamNames[i], total, s.next)
		}
		s.missing += total - s.next // the tail was dropped
		s.next, s.delivered, s.eof = total, total, true
	}
	if d.GetExit() != nil {
		l.exit = d.GetExit()
	}
	l.done = true
	return nil
}

func (l *Ledger) missing() [2]int64 { return [2]int64{l.out[stdout].missing, l.out[stderr].missing} }

// Done reports whether everything has been said.
func (l *Ledger) Done() bool { return l.done }

// Result returns what is known of the command.
func (l *Ledger) Result() Result {
	return Result{
		Exit:       honest(l.exit, l.done),
		StdoutNext: l.out[stdout].delivered, StderrNext: l.out[stderr].delivered,
		StdoutMissing: l.out[stdout].missing, StderrMissing: l.out[stderr].missing,
	}
}

// honest returns an exit status that nobody can take for a success that was not
// witnessed.
func honest(exit *providerv1.ExitStatus, done bool) *providerv1.ExitStatus {
	unknown := exit.GetCause() == providerv1.ExitCause_EXIT_CAUSE_UNKNOWN || exit.GetResult() == nil
	switch {
	case exit == nil && !done:
		return nil
	case exit == nil:
		return &providerv1.ExitStatus{Cause: providerv1.ExitCause_EXIT_CAUSE_UNKNOWN, Detail: "the provider did not say how the command ended"}
	case unknown:
		exit = proto.CloneOf(exit)
		exit.Result, exit.Cause = nil, providerv1.ExitCause_EXIT_CAUSE_UNKNOWN
	}
	return exit
}

// errProtocol marks what no new attachment would mend.
var errProtocol = errors.New("the provider broke the exec protocol")

func violation(format string, args ...any) error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG, "%w: %s", errProtocol, fmt.Sprintf(format, args...))
}
