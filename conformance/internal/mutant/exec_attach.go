package mutant

import (
	"bytes"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func attachMutants() []Mutant {
	return []Mutant{
		{
			ID: "attach/replay-from-zero~text", Kills: "attach/replay-from-zero",
			Bug:    "what is read after the end is text: carriage returns are gone",
			Stream: replayIsText(),
		},
		{
			ID: "attach/resume-mid-offset~all-of-stderr", Kills: "attach/resume-mid-offset",
			Bug: "an attachment that resumes gets all of standard error again",
			Stream: attaching(func(a *attachment) {
				if a.open.GetStdoutFrom() > 0 && a.open.GetStderrFrom() > 0 {
					a.open.StderrFrom = 0
				}
			}),
			Also: []string{"attach/after-exit"},
		},
		{
			ID: "attach/one-stream~both", Kills: "attach/one-stream",
			Bug:    "standard error is sent although it was left out",
			Stream: attaching(func(a *attachment) { a.open.StderrFrom = max(a.open.GetStderrFrom(), 0) }),
		},
		{
			ID: "attach/two-readers~newest", Kills: "attach/two-readers",
			Bug:    "after the first 64 KiB only the newest of several attachments gets output",
			Stream: newestReads(),
		},
		{
			ID: "attach/cancel-does-not-kill~kills", Kills: "attach/cancel-does-not-kill",
			Also:   []string{"attach/resume-mid-offset", "attach/stdin-exactly-once", "attach/stdin-stays-open"},
			Bug:    "cancelling an attachment kills the command",
			Stream: outliving(killWhenCut),
		},
		{
			ID: "attach/after-exit~zero", Kills: "attach/after-exit",
			Bug:    "who attaches after the end is told exit code 0",
			Stream: zeroAfterEnd(),
		},
		{
			ID: "attach/unknown-exec~empty", Kills: "attach/unknown-exec",
			Bug:    "a command that does not exist is one that printed nothing and ended well",
			Stream: attaching(func(a *attachment) { a.end = emptyIfUnknown }),
		},
		{
			ID: "attach/evicted-offset~bare", Kills: "attach/evicted-offset",
			Bug: "the refusal of an offset does not name the oldest one",
			Stream: attaching(func(a *attachment) {
				a.end = func(_ grpc.ServerStream, err error) error {
					if f := fault.From(err); answers(err, providerv1.ErrorReason_ERROR_REASON_OFFSET_EVICTED) {
						delete(f.Metadata, "oldest_offset")
						return f
					}
					return err
				}
			}),
		},
		{
			ID: "attach/from-oldest~not-counted", Kills: "attach/from-oldest",
			Bug: "what from_oldest left out is not counted as missing",
			Stream: printing(func(f *output) {
				if f.GetDone() != nil {
					f.GetDone().StdoutMissing = 0
				}
			}),
		},
		{
			ID: "attach/offset-beyond-end~clamped", Kills: "attach/offset-beyond-end",
			Bug: "an offset beyond the end is taken for the end",
			Stream: attaching(func(a *attachment) {
				if e := a.record(); e != nil {
					a.open.StdoutFrom = min(a.open.GetStdoutFrom(), e.GetStdoutTotal())
					a.open.StderrFrom = min(a.open.GetStderrFrom(), e.GetStderrTotal())
				}
			}),
		},
	}
}

// replayIsText drops carriage returns once the command's end is known before any
// output was sent.
func replayIsText() grpc.StreamServerInterceptor {
	return attaching(func(a *attachment) {
		sent, replay := false, false
		a.out = func(f *output) []*output {
			replay = replay || f.GetExit() != nil && !sent
			if d := f.GetData(); d != nil {
				sent = true
				if replay {
					d.Data = bytes.ReplaceAll(d.GetData(), []byte("\r"), nil)
				}
			}
			return []*output{f}
		}
	})
}

// newestReads starves all attachments of a command but the newest.
func newestReads() grpc.StreamServerInterceptor {
	newest := newMemory[int64]()
	return attaching(func(a *attachment) {
		id := a.open.GetExecId()
		mine := newest.change(id, add(1))
		a.out = func(f *output) []*output {
			if f.GetData().GetOffset() >= 64<<10 && newest.get(id) != mine {
				return nil
			}
			return []*output{f}
		}
	})
}

// killWhenCut kills the command when its reader goes.
func killWhenCut(a *attachment) {
	a.cut = func() []*input {
		return []*input{{Frame: &providerv1.ExecInput_Signal{Signal: execKilled}}}
	}
}

// zeroAfterEnd lies to attachments that were opened after the end.
func zeroAfterEnd() grpc.StreamServerInterceptor {
	return attaching(func(a *attachment) {
		e := a.record()
		late := e != nil && e.GetState() != execStateRunning
		a.out = func(f *output) []*output {
			for _, exit := range []*providerv1.ExitStatus{f.GetExit(), f.GetDone().GetExit()} {
				if exit != nil && late {
					exit.Result = &providerv1.ExitStatus_Code{}
				}
			}
			return []*output{f}
		}
	})
}

// emptyIfUnknown makes up a command.
func emptyIfUnknown(stream grpc.ServerStream, err error) error {
	if !answers(err, noSuchExec) {
		return err
	}
	exit := &providerv1.ExitStatus{Result: &providerv1.ExitStatus_Code{}, Cause: causeTask}
	eof := func(s providerv1.ExecStream) *output {
		return &output{Frame: &providerv1.ExecOutput_Data{Data: &providerv1.ExecData{Stream: s, Eof: true}}}
	}
	for _, f := range []*output{
		{Frame: &providerv1.ExecOutput_Opened{Opened: &providerv1.ExecOpened{}}},
		{Frame: &providerv1.ExecOutput_Exit{Exit: exit}},
		eof(providerv1.ExecStream_EXEC_STREAM_STDOUT), eof(providerv1.ExecStream_EXEC_STREAM_STDERR),
		{Frame: &providerv1.ExecOutput_Done{Done: &providerv1.ExecDone{Exit: exit}}},
	} {
		if err := stream.SendMsg(&providerv1.AttachExecResponse{Output: f}); err != nil {
			return err
		}
	}
	return nil
}

func writerMutants() []Mutant {
	return []Mutant{
		{
			ID: "attach/stdin-exactly-once~twice", Kills: "attach/stdin-exactly-once",
			Bug:    "input that is sent again arrives again",
			Stream: misplaced(func(offset, accepted int64) bool { return offset < accepted }),
		},
		{
			ID: "attach/stdin-gap~closed-up", Kills: "attach/stdin-gap",
			Bug:    "input behind a gap is put where the gap begins",
			Stream: misplaced(func(offset, accepted int64) bool { return offset > accepted }),
		},
		{
			ID: "attach/stdin-takeover~ignored", Kills: "attach/stdin-takeover",
			Bug:    "a writer that was replaced is not told, and its input gone",
			Stream: replacedIsIgnored(),
		},
		{
			ID: "attach/stdin-reader~ignored", Kills: "attach/stdin-reader",
			Bug: "input of an attachment that did not ask for stdin is ignored",
			Stream: attaching(func(a *attachment) {
				a.in = func(f *input) []*input { return heard(f, f.GetStdin() == nil || a.open.GetStdin()) }
			}),
		},
		{
			ID: "attach/stdin-stays-open~closed", Kills: "attach/stdin-stays-open", Also: []string{"attach/stdin-exactly-once"},
			Bug:    "a command's input ends when its writer detaches",
			Stream: closedWhenCut(),
		},
	}
}

// misplaced moves frames of input to the end of what was accepted.
func misplaced(which func(offset, accepted int64) bool) grpc.StreamServerInterceptor {
	accepted, newest := newMemory[int64](), newMemory[int64]()
	return attaching(func(a *attachment) {
		if !a.open.GetStdin() {
			return
		}
		id := a.open.GetExecId()
		mine := newest.change(id, add(1))
		a.in = func(f *input) []*input {
			if offset := offsetOf(f); offset != nil && newest.get(id) == mine {
				accepted.change(id, func(n int64) int64 {
					if which(*offset, n) {
						*offset = n
					}
					if *offset > n { // will be refused
						return n
					}
					return max(n, *offset+int64(len(f.GetStdin().GetData())))
				})
			}
			return []*input{f}
		}
	})
}

func offsetOf(f *input) *int64 {
	switch {
	case f.GetStdin() != nil:
		return &f.GetStdin().Offset
	case f.GetStdinClose() != nil:
		return &f.GetStdinClose().Offset
	}
	return nil
}

// replacedIsIgnored drops input of all writers but the newest.
func replacedIsIgnored() grpc.StreamServerInterceptor {
	newest := newMemory[int64]()
	return attaching(func(a *attachment) {
		if !a.open.GetStdin() {
			return
		}
		id := a.open.GetExecId()
		mine := newest.change(id, add(1))
		a.in = func(f *input) []*input { return heard(f, f.GetStdin() == nil || newest.get(id) == mine) }
	})
}

// closedWhenCut ends a command's input with its writer.
func closedWhenCut() grpc.StreamServerInterceptor {
	accepted := newMemory[int64]()
	return outliving(func(a *attachment) {
		a.in = func(f *input) []*input {
			accepted.change(a.open.GetExecId(), func(n int64) int64 {
				return max(n, f.GetStdin().GetOffset()+int64(len(f.GetStdin().GetData())))
			})
			return []*input{f}
		}
		if a.open.GetStdin() {
			a.cut = func() []*input {
				return []*input{{Frame: &providerv1.ExecInput_StdinClose{StdinClose: &providerv1.ExecStdinClose{Offset: accepted.get(a.open.GetExecId())}}}}
			}
		}
	})
}
