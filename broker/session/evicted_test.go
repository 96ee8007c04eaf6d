package session_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/sandbar-dev/sandbar/broker/session"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// script is a transport that says what it was told to, and then breaks.
type script struct {
	ctx    context.Context
	opened chan *providerv1.ExecOpen
	open   func(*providerv1.ExecOpen) error
	frames []*providerv1.ExecOutput
	began  bool
}

func (s *script) Send(in *providerv1.ExecInput) error {
	if o := in.GetOpen(); o != nil {
		s.opened <- o
	}
	return nil
}

func (s *script) Recv() (*providerv1.ExecOutput, error) {
	if !s.began {
		s.began = true
		if err := s.open(<-s.opened); err != nil {
			return nil, err
		}
	}
	if len(s.frames) == 0 {
		return nil, io.EOF
	}
	f := s.frames[0]
	s.frames = s.frames[1:]
	return f, nil
}

func openedAt(stdout int64) *providerv1.ExecOutput {
	return &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_Opened{Opened: &providerv1.ExecOpened{StdoutFrom: stdout}}}
}

func evicted() error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_OFFSET_EVICTED, "byte 3 is gone").With("oldest_offset", "10")
}

// TestRunGoesOnAfterEviction: while an attachment was lost, another reader took
// what this one had not seen. The rest is shown, and what is missing is counted.
func TestRunGoesOnAfterEviction(t *testing.T) {
	exit := &providerv1.ExitStatus{Result: &providerv1.ExitStatus_Code{Code: 4}}
	var opens []*providerv1.ExecOpen
	dials := 0
	dial := func(ctx context.Context) (session.Transport, error) {
		dials++
		s := &script{ctx: ctx, opened: make(chan *providerv1.ExecOpen, 1), open: func(o *providerv1.ExecOpen) error {
			opens = append(opens, o)
			if o.GetStdoutFrom() < 10 && !o.GetFromOldest() && len(opens) > 1 {
				return evicted()
			}
			return nil
		}}
		switch dials {
		case 1:
			s.frames = []*providerv1.ExecOutput{openedAt(0), data(0, 0, []byte("abc"), false)}
		case 3:
			s.frames = []*providerv1.ExecOutput{
				openedAt(10), data(0, 10, []byte("xyz"), true), data(1, 0, nil, true),
				{Frame: &providerv1.ExecOutput_Done{Done: &providerv1.ExecDone{StdoutTotal: 13, Exit: exit}}},
			}
		}
		return s, nil
	}
	var out bytes.Buffer
	var lost int64
	r, err := session.New(&providerv1.ExecOpen{}, session.Options{Stdout: &out, Lost: func(_ providerv1.ExecStream, n int64) { lost += n }}).Run(t.Context(), dial)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != "abcxyz" || r.StdoutMissing != 7 || lost != 7 || r.Exit.GetCode() != 4 || dials != 3 {
		t.Errorf("shown %q, result %+v, told of %d, %d attachments", out.String(), r, lost, dials)
	}
}

// TestFirstAttachmentIsRefused: who asks for a byte that is gone is told so.
func TestFirstAttachmentIsRefused(t *testing.T) {
	dial := func(ctx context.Context) (session.Transport, error) {
		return &script{ctx: ctx, opened: make(chan *providerv1.ExecOpen, 1), open: func(*providerv1.ExecOpen) error { return evicted() }}, nil
	}
	_, err := session.New(&providerv1.ExecOpen{StdoutFrom: 3}, session.Options{}).Run(t.Context(), dial)
	if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_OFFSET_EVICTED) {
		t.Errorf("%v", err)
	}
}
