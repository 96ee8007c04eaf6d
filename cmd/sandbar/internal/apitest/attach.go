package apitest

import (
	"context"
	"errors"

	"connectrpc.com/connect"
	"github.com/creack/pty"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

var errCut = connect.NewError(connect.CodeUnavailable, errors.New("the attachment was cut by the test"))

type attachConn = connect.BidiStream[providerv1.AttachExecRequest, providerv1.AttachExecResponse]

// AttachExec carries the streams by offset.
func (b *Broker) AttachExec(ctx context.Context, s *attachConn) error {
	first, err := s.Receive()
	if err != nil {
		return err
	}
	open := first.GetInput().GetOpen()
	c, err := b.command(open.GetSandbox(), open.GetExecId())
	if err != nil {
		return err
	}
	acks := make(chan *providerv1.ExecStdinAck, 64)
	go c.read(s, acks)
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.changed.Broadcast()
	})
	defer stop()
	b.called("AttachExec")
	return c.write(ctx, s, open, acks, b.CutAfter)
}

func send(s *attachConn, out *providerv1.ExecOutput) error {
	return s.Send(&providerv1.AttachExecResponse{Output: out})
}

// write sends output from the asked offsets until the end, an interruption, or
// the frame after which it is to be cut.
func (c *command) write(ctx context.Context, s *attachConn, open *providerv1.ExecOpen, acks <-chan *providerv1.ExecStdinAck, cut int) error {
	at := [2]int64{open.GetStdoutFrom(), open.GetStderrFrom()}
	c.mu.Lock()
	taken := c.taken
	c.mu.Unlock()
	if err := send(s, &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_Opened{Opened: &providerv1.ExecOpened{
		StdoutFrom: max(at[0], 0), StderrFrom: max(at[1], 0), StdinNext: taken,
	}}}); err != nil {
		return err
	}
	for frames := 0; ; frames++ {
		if cut > 0 && frames >= cut {
			return errCut
		}
		out := c.next(ctx, &at, acks)
		if out == nil {
			return ctx.Err()
		}
		if err := send(s, out); err != nil || out.GetDone() != nil {
			return err
		}
	}
}

// next waits for the next frame; nil: the attachment ended.
func (c *command) next(ctx context.Context, at *[2]int64, acks <-chan *providerv1.ExecStdinAck) *providerv1.ExecOutput {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ctx.Err() == nil {
		select {
		case ack := <-acks:
			return &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_StdinAck{StdinAck: ack}}
		default:
		}
		rest := false
		for i := range c.out {
			if at[i] >= 0 && at[i] < int64(len(c.out[i])) {
				data := c.out[i][at[i]:]
				data = data[:min(len(data), 32<<10)]
				frame := &providerv1.ExecData{Stream: providerv1.ExecStream(i + 1), Offset: at[i], Data: append([]byte(nil), data...)}
				at[i] += int64(len(data))
				return &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_Data{Data: frame}}
			}
			rest = rest || !c.eof[i]
		}
		if c.exit != nil && !rest {
			return &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_Done{Done: &providerv1.ExecDone{
				StdoutTotal: int64(len(c.out[0])), StderrTotal: int64(len(c.out[1])), Exit: c.exit,
			}}}
		}
		c.changed.Wait()
	}
	return nil
}

// read takes stdin, sizes and the rest until the attachment ends.
func (c *command) read(s *attachConn, acks chan<- *providerv1.ExecStdinAck) {
	for {
		msg, err := s.Receive()
		if err != nil {
			return
		}
		switch f := msg.GetInput().GetFrame().(type) {
		case *providerv1.ExecInput_Stdin:
			c.take(f.Stdin)
		case *providerv1.ExecInput_StdinClose:
			if c.stdin != nil {
				_ = c.stdin.Close()
			}
		case *providerv1.ExecInput_Resize:
			size := f.Resize.GetSize()
			_ = pty.Setsize(c.tty, &pty.Winsize{Rows: uint16(size.GetRows()), Cols: uint16(size.GetCols())})
			continue
		default:
			continue
		}
		c.mu.Lock()
		ack := &providerv1.ExecStdinAck{Next: c.taken, Closed: c.exit != nil}
		select {
		case acks <- ack:
		default:
		}
		c.changed.Broadcast()
		c.mu.Unlock()
	}
}

// take writes what is new of a frame of stdin.
func (c *command) take(in *providerv1.ExecStdin) {
	c.mu.Lock()
	from := c.taken
	c.mu.Unlock()
	end := in.GetOffset() + int64(len(in.GetData()))
	if in.GetOffset() > from || end <= from {
		return
	}
	data := in.GetData()[from-in.GetOffset():]
	var err error
	if c.tty != nil {
		_, err = c.tty.Write(data)
	} else if c.stdin != nil {
		_, err = c.stdin.Write(data)
	}
	_ = err // a command that reads no more is none of the sender's business
	c.mu.Lock()
	c.taken = end
	c.mu.Unlock()
}
