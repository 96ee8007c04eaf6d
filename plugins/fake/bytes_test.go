package fake_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"testing"

	"pgregory.net/rapid"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// filter runs a command with an input of any size, and returns its output.
func (r *rig) filter(exec string, input []byte, text string) ([]byte, error) {
	stream := r.start("sbx_1", exec, &providerv1.ExecSpec{Argv: []string{"sh", "-c", text}, Stdin: true})
	next := make(chan int64, 1)
	fed := make(chan error, 1)
	go func() { fed <- feed(stream, input, next) }()
	var out bytes.Buffer
	for {
		resp, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		switch f := resp.GetOutput().GetFrame().(type) {
		case *providerv1.ExecOutput_StdinAck:
			select {
			case <-next:
			default:
			}
			next <- f.StdinAck.GetNext()
		case *providerv1.ExecOutput_Data:
			if f.Data.GetStream() == providerv1.ExecStream_EXEC_STREAM_STDERR && len(f.Data.GetData()) > 0 {
				return nil, fmt.Errorf("stderr %q", f.Data.GetData())
			}
			out.Write(f.Data.GetData())
		case *providerv1.ExecOutput_Fault:
			return nil, fmt.Errorf("fault %v", f.Fault)
		case *providerv1.ExecOutput_Done:
			close(next)
			if err := <-fed; err != nil && !errors.Is(err, io.EOF) {
				return nil, err
			}
			if code := f.Done.GetExit().GetCode(); code != 0 {
				return nil, fmt.Errorf("exit code %d", code)
			}
			return out.Bytes(), nil
		}
	}
}

// feed sends input within the window that acknowledgements open.
func feed(stream attachment, input []byte, next <-chan int64) error {
	const window, frame = 64 << 10, 32 << 10
	sent, taken := int64(0), int64(0)
	for sent < int64(len(input)) {
		for sent-taken >= window {
			n, ok := <-next
			if !ok {
				return nil // the command ended before its input
			}
			taken = n
		}
		end := min(sent+frame, int64(len(input)))
		in := &providerv1.ExecInput{Frame: &providerv1.ExecInput_Stdin{Stdin: &providerv1.ExecStdin{Offset: sent, Data: input[sent:end]}}}
		if err := stream.Send(&providerv1.AttachExecRequest{Input: in}); err != nil {
			return err
		}
		sent = end
	}
	in := &providerv1.ExecInput{Frame: &providerv1.ExecInput_StdinClose{StdinClose: &providerv1.ExecStdinClose{Offset: sent}}}
	return stream.Send(&providerv1.AttachExecRequest{Input: in})
}

// TestPipelinesAreByteExact sends random bytes through utilities, by the real
// machinery of commands, and compares with what Go makes of them.
func TestPipelinesAreByteExact(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", nil)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(rt, "seed")
		input := bytes.Repeat(seed, rapid.IntRange(0, 400<<10).Draw(rt, "length")/len(seed)+1)
		if rapid.Bool().Draw(rt, "empty") && len(seed) == 1 {
			input = nil
		}
		n := int64(rapid.IntRange(0, len(input)+10).Draw(rt, "n"))
		bs := int64(rapid.IntRange(1, 100<<10).Draw(rt, "bs"))
		all := int64(len(input))
		sum := fmt.Appendf(nil, "%x  -\n", sha256.Sum256(input))
		pipelines := []struct {
			text string
			want []byte
		}{
			{"cat | sha256sum", sum},
			{"tee /tmp/in | sha256sum > /tmp/a; sha256sum < /tmp/in | cat /tmp/a -", bytes.Repeat(sum, 2)},
			{fmt.Sprintf("head -c %d", n), input[:min(n, all)]},
			{fmt.Sprintf("tail -c %d | cat", n), input[all-min(n, all):]},
			{fmt.Sprintf("tail -c +%d", n+1), input[min(n, all):]},
			{fmt.Sprintf("dd bs=%d status=none | dd bs=1000 status=none", bs), input},
			{fmt.Sprintf("cat > /tmp/f; dd if=/tmp/f bs=%d skip=1 iflag=fullblock status=none", bs), input[min(bs, all):]},
			{
				fmt.Sprintf("cat > /tmp/f; dd if=/tmp/f of=/tmp/g bs=%d status=none; dd if=/tmp/g iflag=count_bytes count=%d bs=4k status=none; rm /tmp/g", bs, n),
				input[:min(n, all)],
			},
			{"wc -c", fmt.Appendf(nil, "%d\n", all)},
		}
		p := rapid.SampledFrom(pipelines).Draw(rt, "pipeline")
		run++
		got, err := r.filter(fmt.Sprintf("exe_%d", run), input, p.text)
		if err != nil {
			rt.Fatalf("%s: %v", p.text, err)
		}
		if !bytes.Equal(got, p.want) {
			rt.Fatalf("%s: %d bytes came out of %d, want %d", p.text, len(got), all, len(p.want))
		}
	})
}
