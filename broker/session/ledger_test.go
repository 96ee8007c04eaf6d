package session_test

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/broker/session"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// peer is the simplest server that keeps the contract: it has produced all of its
// output, and counts what it is fed.
type peer struct {
	out    [2][]byte
	oldest [2]int64 // bytes before it are evicted
	stdin  []byte
	read   int64 // how much of stdin the command took over
	closed int64 // offset of the half-close; -1: none
	ended  bool  // the command is over: Done may be sent

	queue []*providerv1.ExecOutput // to the client
	want  [2]bool
	acked [2]int64
	fail  func(format string, args ...any)
}

func newPeer(fail func(string, ...any)) *peer { return &peer{closed: -1, fail: fail} }

func (p *peer) attach(in *providerv1.ExecInput, cut func(n int) int) {
	open := in.GetOpen()
	if open == nil {
		p.fail("the first frame is %v, want Open", in)
	}
	p.queue = nil
	from := [2]int64{open.GetStdoutFrom(), open.GetStderrFrom()}
	for i := range from {
		if p.want[i] = from[i] >= 0; p.want[i] {
			from[i] = max(from[i], p.oldest[i])
		}
	}
	p.queue = append(p.queue, &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_Opened{Opened: &providerv1.ExecOpened{
		StdoutFrom: from[0], StderrFrom: from[1], StdinNext: p.read,
	}}})
	for i := range from {
		for pos := from[i]; p.want[i]; {
			n := int64(cut(len(p.out[i]) - int(pos)))
			eof := pos+n == int64(len(p.out[i]))
			p.queue = append(p.queue, data(i, pos, p.out[i][pos:pos+n], eof))
			if pos += n; eof {
				break
			}
		}
	}
}

func data(i int, offset int64, b []byte, eof bool) *providerv1.ExecOutput {
	return &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_Data{Data: &providerv1.ExecData{
		Stream: providerv1.ExecStream(i + 1), Offset: offset, Data: b, Eof: eof,
	}}}
}

func done(p *peer) *providerv1.ExecOutput {
	return &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_Done{Done: &providerv1.ExecDone{
		StdoutTotal: int64(len(p.out[0])), StderrTotal: int64(len(p.out[1])),
		Exit: &providerv1.ExitStatus{Result: &providerv1.ExitStatus_Code{Code: 7}, Cause: providerv1.ExitCause_EXIT_CAUSE_TASK},
	}}}
}

// take receives one frame of the client.
func (p *peer) take(in *providerv1.ExecInput) {
	switch f := in.GetFrame().(type) {
	case *providerv1.ExecInput_Stdin:
		next := int64(len(p.stdin))
		if f.Stdin.GetOffset() > next {
			p.fail("stdin has a gap: at %d, want %d", f.Stdin.GetOffset(), next)
			return
		}
		if skip := next - f.Stdin.GetOffset(); skip < int64(len(f.Stdin.GetData())) {
			p.stdin = append(p.stdin, f.Stdin.GetData()[skip:]...)
		}
	case *providerv1.ExecInput_StdinClose:
		if f.StdinClose.GetOffset() != int64(len(p.stdin)) {
			p.fail("stdin closes at %d, received %d", f.StdinClose.GetOffset(), len(p.stdin))
		}
		p.closed = f.StdinClose.GetOffset()
	case *providerv1.ExecInput_Ack:
		p.acked = [2]int64{f.Ack.GetStdout(), f.Ack.GetStderr()}
	}
}

// reads lets the command take over some of what it was fed, which may be from
// before this attachment.
func (p *peer) reads(n int) {
	p.read += int64(n)
	p.queue = append(p.queue, &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_StdinAck{StdinAck: &providerv1.ExecStdinAck{Next: p.read}}})
}

// TestEveryByteOnce plays random interleavings of output, input, acknowledgements
// and broken attachments, on which frames in flight are lost in both directions.
func TestEveryByteOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPeer(t.Fatalf)
		for i := range p.out {
			p.out[i] = rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "output")
		}
		input := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "input")
		l := session.NewLedger(&providerv1.ExecOpen{ExecId: "exe_1", Stdin: true})
		var got [2][]byte
		fed, attached := 0, false
		cut := func(n int) int { return rapid.IntRange(0, n).Draw(t, "size") }
		for !l.Done() {
			switch move := rapid.IntRange(0, 11).Draw(t, "move"); {
			case !attached:
				p.attach(l.Open(), cut)
				attached = true
			case move == 0: // lost: what was queued to the client never arrives
				attached = false
			case move <= 2 && fed < len(input):
				n, ok := l.Write(input[fed:min(len(input), fed+rapid.IntRange(1, 50).Draw(t, "write"))])
				if fed += n; !ok {
					t.Fatal("input ended early")
				}
				if fed == len(input) {
					l.CloseInput()
				}
			case move <= 5:
				if f := l.Next(rapid.Bool().Draw(t, "flush")); f != nil && rapid.IntRange(0, 9).Draw(t, "arrives") > 0 {
					p.take(f)
				} else if f != nil { // lost on its way, and with it the attachment
					attached = false
				}
			case move <= 7 && p.read < int64(len(p.stdin)):
				p.reads(rapid.IntRange(1, len(p.stdin)-int(p.read)).Draw(t, "reads"))
			case len(p.queue) > 0:
				chunk, err := l.Accept(p.queue[0])
				if err != nil {
					t.Fatal(err)
				}
				p.queue = p.queue[1:]
				if chunk != nil {
					i := chunk.Stream - 1
					got[i] = append(got[i], chunk.Data...)
					l.Delivered(chunk)
				}
			case fed == len(input) && (p.closed >= 0 || len(input) == 0):
				p.queue = append(p.queue, done(p))
			}
		}
		for i := range got {
			if !bytes.Equal(got[i], p.out[i]) {
				t.Fatalf("stream %d: got %q, want %q", i+1, got[i], p.out[i])
			}
		}
		if !bytes.Equal(p.stdin, input) {
			t.Fatalf("stdin: got %q, want %q", p.stdin, input)
		}
		if r := l.Result(); r.Exit.GetCode() != 7 || r.StdoutMissing+r.StderrMissing != 0 {
			t.Fatalf("result is %+v", r)
		}
	})
}

// TestWhatIsMissingIsCounted holds for every way in which bytes get lost.
func TestWhatIsMissingIsCounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPeer(t.Fatalf)
		p.out[0] = rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, "output")
		l := session.NewLedger(&providerv1.ExecOpen{StderrFrom: -1, FromOldest: true})
		var got []byte
		for !l.Done() {
			p.oldest[0] = rapid.Int64Range(p.oldest[0], int64(len(p.out[0]))).Draw(t, "oldest")
			p.attach(l.Open(), func(n int) int { return rapid.IntRange(min(1, n), n).Draw(t, "size") })
			p.queue = append(p.queue, done(p))
			for _, f := range p.queue[:rapid.IntRange(1, len(p.queue)).Draw(t, "frames")] {
				if f.GetData() != nil && rapid.IntRange(0, 5).Draw(t, "dropped") == 0 && !f.GetData().GetEof() {
					continue // dropped by the provider, as DROP_OLDEST may
				}
				chunk, err := l.Accept(f)
				if err != nil {
					t.Fatal(err)
				}
				if chunk != nil {
					got = append(got, chunk.Data...)
					l.Delivered(chunk)
				}
			}
		}
		if missing := l.Result().StdoutMissing; int64(len(got))+missing != int64(len(p.out[0])) {
			t.Fatalf("%d bytes came and %d are missing of %d", len(got), missing, len(p.out[0]))
		}
	})
}

func TestViolationsAreRefused(t *testing.T) {
	opened := &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_Opened{Opened: &providerv1.ExecOpened{StderrFrom: -1}}}
	ack := func(next int64) *providerv1.ExecOutput {
		return &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_StdinAck{StdinAck: &providerv1.ExecStdinAck{Next: next}}}
	}
	for _, tc := range []struct {
		name   string
		frames []*providerv1.ExecOutput
	}{
		{"data before Opened", []*providerv1.ExecOutput{data(0, 0, []byte("x"), false)}},
		{"Opened twice", []*providerv1.ExecOutput{opened, opened}},
		{"unknown stream", []*providerv1.ExecOutput{opened, data(6, 0, []byte("x"), false)}},
		{"stream not asked for", []*providerv1.ExecOutput{opened, data(1, 0, []byte("x"), false)}},
		{"frame too large", []*providerv1.ExecOutput{opened, data(0, 0, make([]byte, 65<<10), false)}},
		{"data after the end", []*providerv1.ExecOutput{opened, data(0, 0, []byte("x"), true), data(0, 1, []byte("y"), false)}},
		{"stdin acknowledged that was never sent", []*providerv1.ExecOutput{opened, ack(1)}},
		{"total below what came", []*providerv1.ExecOutput{opened, data(0, 0, []byte("xy"), false), done(&peer{out: [2][]byte{{1}}})}},
		{"frame after Done", []*providerv1.ExecOutput{opened, done(&peer{}), data(0, 0, nil, true)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := session.NewLedger(&providerv1.ExecOpen{StderrFrom: -1, Stdin: true})
			l.Open()
			for i, f := range tc.frames {
				_, err := l.Accept(f)
				if last := i == len(tc.frames)-1; last != fault.Has(err, providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG) {
					t.Errorf("frame %d: error %v", i, err)
				}
			}
		})
	}
}

func TestNoExitIsMadeUp(t *testing.T) {
	code := func(c providerv1.ExitCause) *providerv1.ExitStatus {
		return &providerv1.ExitStatus{Result: &providerv1.ExitStatus_Code{}, Cause: c}
	}
	for _, tc := range []struct {
		name string
		exit *providerv1.ExitStatus
		want providerv1.ExitCause
	}{
		{"code 0", code(providerv1.ExitCause_EXIT_CAUSE_TASK), providerv1.ExitCause_EXIT_CAUSE_TASK},
		{"no exit", nil, providerv1.ExitCause_EXIT_CAUSE_UNKNOWN},
		{"neither code nor signal", &providerv1.ExitStatus{Cause: providerv1.ExitCause_EXIT_CAUSE_TASK}, providerv1.ExitCause_EXIT_CAUSE_UNKNOWN},
		{"code 0 of unknown cause", code(providerv1.ExitCause_EXIT_CAUSE_UNKNOWN), providerv1.ExitCause_EXIT_CAUSE_UNKNOWN},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := session.NewLedger(&providerv1.ExecOpen{StdoutFrom: -1, StderrFrom: -1})
			if l.Result().Exit != nil {
				t.Error("an exit before anything was said")
			}
			l.Open()
			for _, f := range []*providerv1.ExecOutput{
				{Frame: &providerv1.ExecOutput_Opened{Opened: &providerv1.ExecOpened{}}},
				{Frame: &providerv1.ExecOutput_Done{Done: &providerv1.ExecDone{Exit: tc.exit}}},
			} {
				if _, err := l.Accept(f); err != nil {
					t.Fatal(err)
				}
			}
			exit := l.Result().Exit
			if exit.GetCause() != tc.want || tc.want == providerv1.ExitCause_EXIT_CAUSE_UNKNOWN && exit.GetResult() != nil {
				t.Errorf("exit is %v", exit)
			}
		})
	}
}

func TestSizeAndSignals(t *testing.T) {
	l := session.NewLedger(&providerv1.ExecOpen{})
	l.Resize(1, 24, 80)
	l.Resize(2, 50, 132)
	l.Signal(providerv1.ExecSignal_EXEC_SIGNAL_INT)
	if f := l.Next(true); f != nil {
		t.Errorf("%v before Opened", f)
	}
	var got []string
	for range 2 { // the size is sent on each attachment, the signal once
		l.Open()
		if _, err := l.Accept(&providerv1.ExecOutput{Frame: &providerv1.ExecOutput_Opened{Opened: &providerv1.ExecOpened{}}}); err != nil {
			t.Fatal(err)
		}
		for f := l.Next(true); f != nil; f = l.Next(true) {
			switch f := f.GetFrame().(type) {
			case *providerv1.ExecInput_Resize:
				got = append(got, "resize "+f.Resize.GetSize().String())
			case *providerv1.ExecInput_Signal:
				got = append(got, f.Signal.String())
			}
		}
	}
	if len(got) != 3 || got[0] != "EXEC_SIGNAL_INT" || got[1] != got[2] || !bytes.Contains([]byte(got[1]), []byte("132")) {
		t.Errorf("sent %v", got)
	}
}
