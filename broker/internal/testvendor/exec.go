package testvendor

import (
	"context"
	"errors"
	"io"
	"strconv"

	"google.golang.org/grpc"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// command is one "process". Programs are: exit N, bytes N (N MiB of zeros), cat,
// and sleep, which ends when it is signalled.
type command struct {
	exec *providerv1.Exec
	done chan struct{}
}

// StartExec starts a command.
func (v *Vendor) StartExec(_ context.Context, req *providerv1.StartExecRequest) (*providerv1.StartExecResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	sb := v.sandboxes[req.GetSandbox().GetSandboxId()]
	if sb == nil {
		return nil, missing(req.GetSandbox().GetSandboxId())
	}
	if sb.GetState() != providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		return nil, reason(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING, "not running")
	}
	c := v.execs[req.GetExecId()]
	if c == nil {
		c = &command{done: make(chan struct{}), exec: &providerv1.Exec{
			ExecId: req.GetExecId(), SandboxId: req.GetSandbox().GetSandboxId(),
			Argv: req.GetSpec().GetArgv(), State: providerv1.ExecState_EXEC_STATE_RUNNING,
		}}
		v.execs[req.GetExecId()] = c
		if c.exec.GetArgv()[0] == "exit" {
			code, _ := strconv.Atoi(c.exec.GetArgv()[1])
			c.end(int32(code)) //nolint:gosec // a test's number
		}
	}
	return &providerv1.StartExecResponse{Exec: c.exec}, nil
}

// end ends the command; the vendor's mutex is held.
func (c *command) end(code int32) {
	if c.exec.GetState() == providerv1.ExecState_EXEC_STATE_RUNNING {
		c.exec.State = providerv1.ExecState_EXEC_STATE_EXITED
		c.exec.Exit = &providerv1.ExitStatus{Result: &providerv1.ExitStatus_Code{Code: code}, Cause: providerv1.ExitCause_EXIT_CAUSE_TASK}
		close(c.done)
	}
}

func (v *Vendor) find(id string) (*command, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if c := v.execs[id]; c != nil {
		return c, nil
	}
	return nil, reason(providerv1.ErrorReason_ERROR_REASON_EXEC_NOT_FOUND, "exec %q does not exist", id)
}

// GetExec returns a command.
func (v *Vendor) GetExec(_ context.Context, req *providerv1.GetExecRequest) (*providerv1.GetExecResponse, error) {
	c, err := v.find(req.GetExecId())
	if err != nil {
		return nil, err
	}
	return &providerv1.GetExecResponse{Exec: c.exec}, nil
}

// SignalExec ends a command.
func (v *Vendor) SignalExec(_ context.Context, req *providerv1.SignalExecRequest) (*providerv1.SignalExecResponse, error) {
	c, err := v.find(req.GetExecId())
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	c.end(0)
	return &providerv1.SignalExecResponse{}, nil
}

// ListExecs lists a sandbox's commands.
func (v *Vendor) ListExecs(_ context.Context, req *providerv1.ListExecsRequest) (*providerv1.ListExecsResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := &providerv1.ListExecsResponse{}
	for _, c := range v.execs {
		if c.exec.GetSandboxId() == req.GetSandbox().GetSandboxId() {
			out.Execs = append(out.Execs, c.exec)
		}
	}
	return out, nil
}

type attachServer = grpc.BidiStreamingServer[providerv1.AttachExecRequest, providerv1.AttachExecResponse]

// AttachExec plays the command's program.
func (v *Vendor) AttachExec(stream attachServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	c, err := v.find(first.GetInput().GetOpen().GetExecId())
	if err != nil {
		return err
	}
	err = send(stream, &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_Opened{Opened: &providerv1.ExecOpened{}}})
	if err != nil {
		return err
	}
	var total int64
	switch c.exec.GetArgv()[0] {
	case "bytes":
		mib, _ := strconv.Atoi(c.exec.GetArgv()[1])
		total, err = produce(stream, int64(mib)<<20)
	case "cat":
		total, err = echo(stream)
	case "sleep":
		select {
		case <-c.done:
		case <-stream.Context().Done():
			err = stream.Context().Err()
		}
	}
	if err != nil {
		return err
	}
	v.mu.Lock()
	c.end(0)
	exit := c.exec.GetExit()
	v.mu.Unlock()
	return send(stream, &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_Done{Done: &providerv1.ExecDone{StdoutTotal: total, Exit: exit}}})
}

func send(stream attachServer, out *providerv1.ExecOutput) error {
	return stream.Send(&providerv1.AttachExecResponse{Output: out})
}

const frame = 32 << 10

func produce(stream attachServer, total int64) (int64, error) {
	buf := make([]byte, frame)
	for off := int64(0); off < total; off += frame {
		if err := sendData(stream, off, buf); err != nil {
			return off, err
		}
	}
	return total, nil
}

func sendData(stream attachServer, off int64, data []byte) error {
	return send(stream, &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_Data{Data: &providerv1.ExecData{
		Stream: providerv1.ExecStream_EXEC_STREAM_STDOUT, Offset: off, Data: data,
	}}})
}

func echo(stream attachServer) (int64, error) {
	var off int64
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) || req.GetInput().GetStdinClose() != nil {
			return off, nil
		}
		if err != nil {
			return off, err
		}
		data := req.GetInput().GetStdin().GetData()
		if err := sendData(stream, off, data); err != nil {
			return off, err
		}
		off += int64(len(data))
	}
}
