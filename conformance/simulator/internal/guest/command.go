package guest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Run is a command that a guest runs.
type Run struct {
	guest *Guest
	id    string
}

// Order is what to run. The guest's own environment is under Env.
type Order struct {
	Argv []string
	Env  map[string]string
	Dir  string
	// Timeout kills it; 0: never.
	Timeout time.Duration
}

// Start starts a command without standard input.
func (g *Guest) Start(ctx context.Context, order Order) (*Run, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	spec := &providerv1.ExecSpec{Argv: order.Argv, Env: order.Env, Workdir: order.Dir}
	if order.Timeout > 0 {
		spec.Timeout = durationpb.New(order.Timeout)
	}
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode a command: %w", err)
	}
	digest := sha256.Sum256(text)
	r := &Run{guest: g, id: newID("exe")}
	_, err = g.fleet.client.StartExec(ctx, &providerv1.StartExecRequest{Sandbox: g.ref, ExecId: r.id, RequestDigest: digest[:], Spec: spec})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Signal sends a signal to the command's process group.
func (r *Run) Signal(ctx context.Context, signal providerv1.ExecSignal) error {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	_, err := r.guest.fleet.client.SignalExec(ctx, &providerv1.SignalExecRequest{Sandbox: r.guest.ref, ExecId: r.id, Signal: signal})
	return err
}

const (
	// ackEvery is how much is taken over before that is said.
	ackEvery = 256 << 10
	// mostBreaks is how often in a row an attachment may break.
	mostBreaks = 5
)

// Follow calls print with the output as it comes, and returns how the command ended.
// print may take its time: the command waits for it.
func (r *Run) Follow(ctx context.Context, print func(stderr bool, data []byte)) (*providerv1.ExitStatus, error) {
	var at [2]int64
	var last error
	for breaks := 0; breaks < mostBreaks && ctx.Err() == nil; breaks++ {
		before := at
		done, err := r.attach(ctx, &at, print)
		if done != nil {
			return done.GetExit(), nil
		}
		if at != before {
			breaks = 0
		}
		last = err
		const pause = 100 * time.Millisecond
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		if reason := Reason(err); reason == providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND || reason == providerv1.ErrorReason_ERROR_REASON_EXEC_NOT_FOUND {
			break
		}
	}
	return nil, errors.Join(ctx.Err(), last)
}

// attach reads from where an earlier attachment ended.
func (r *Run) attach(ctx context.Context, at *[2]int64, print func(stderr bool, data []byte)) (*providerv1.ExecDone, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := r.guest.fleet.client.AttachExec(ctx)
	if err != nil {
		return nil, err
	}
	send := func(in *providerv1.ExecInput) { _ = stream.Send(&providerv1.AttachExecRequest{Input: in}) } // Recv says why it failed
	send(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Open{
		Open: &providerv1.ExecOpen{Sandbox: r.guest.ref, ExecId: r.id, StdoutFrom: at[0], StderrFrom: at[1]},
	}})
	acked := at[0] + at[1]
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the attachment ended without a word")
		}
		if err != nil {
			return nil, err
		}
		switch f := resp.GetOutput().GetFrame().(type) {
		case *providerv1.ExecOutput_Data:
			i := 0
			if f.Data.GetStream() == providerv1.ExecStream_EXEC_STREAM_STDERR {
				i = 1
			}
			if len(f.Data.GetData()) > 0 {
				print(i == 1, f.Data.GetData())
				at[i] = f.Data.GetOffset() + int64(len(f.Data.GetData()))
			}
			if at[0]+at[1]-acked >= ackEvery {
				acked = at[0] + at[1]
				send(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Ack{Ack: &providerv1.ExecAck{Stdout: at[0], Stderr: at[1]}}})
			}
		case *providerv1.ExecOutput_Fault:
			return nil, errors.New(f.Fault.GetMessage())
		case *providerv1.ExecOutput_Done:
			return f.Done, nil
		}
	}
}
