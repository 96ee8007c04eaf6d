package relay_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/relay"
)

func stdin(data []byte) *providerv1.AttachExecRequest {
	return &providerv1.AttachExecRequest{Input: &providerv1.ExecInput{Frame: &providerv1.ExecInput_Stdin{
		Stdin: &providerv1.ExecStdin{Offset: 7, Data: data},
	}}}
}

// pieces cuts b into buffers, as a connection does.
func pieces(b []byte, cuts []int) mem.BufferSlice {
	var out mem.BufferSlice
	for _, n := range cuts {
		n = min(n, len(b))
		out = append(out, mem.SliceBuffer(b[:n]))
		b = b[n:]
	}
	return append(out, mem.SliceBuffer(b))
}

// What goes in comes out, however it was cut, by each way out.
func TestFramesKeepTheirBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := stdin(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data"))
		encoded, err := proto.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var f relay.Frame
		if err := relay.Codec().Unmarshal(pieces(encoded, rapid.SliceOf(rapid.IntRange(0, 40)).Draw(t, "cuts")), &f); err != nil {
			t.Fatal(err)
		}
		if f.Len() != len(encoded) || !bytes.Equal(f.AppendTo(nil), encoded) {
			t.Fatalf("frame holds %x, want %x", f.AppendTo(nil), encoded)
		}
		got := &providerv1.AttachExecRequest{}
		if err := f.Decode(got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
			t.Fatal(d)
		}
		sent, err := relay.Codec().Marshal(&f)
		if err != nil || !bytes.Equal(sent.Materialize(), encoded) {
			t.Fatalf("sent %x, %v; want %x", sent.Materialize(), err, encoded)
		}
		if f.Len() != 0 {
			t.Fatal("a frame that was sent is not empty")
		}
	})
}

// The codec is the usual one for messages.
func TestCodecTakesMessages(t *testing.T) {
	want := stdin([]byte("x"))
	data, err := relay.Codec().Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got := &providerv1.AttachExecRequest{}
	if err := relay.Codec().Unmarshal(data, got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Error(d)
	}
}

func TestBulk(t *testing.T) {
	encode := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	nested := func(fields ...[]byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), bytes.Join(fields, nil))
	}
	signal := encode(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Signal{Signal: providerv1.ExecSignal_EXEC_SIGNAL_KILL}})
	ack := encode(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Ack{Ack: &providerv1.ExecAck{Stdout: 5}}})
	plain := encode(stdin(bytes.Repeat([]byte("x"), 32<<10)))
	input := encode(stdin([]byte("x")).GetInput())
	write := encode(&providerv1.WriteFileRequest{Frame: &providerv1.WriteFileRequest_Data{Data: []byte("x")}})
	attach, file := []protowire.Number{1, 2, 2}, []protowire.Number{2}
	for name, c := range map[string]struct {
		message []byte
		path    []protowire.Number
		want    bool
	}{
		"stdin":                 {plain, attach, true},
		"content of a file":     {write, file, true},
		"nothing":               {nil, attach, false},
		"no path":               {plain, nil, false},
		"no payload":            {encode(stdin(nil)), attach, false},
		"signal":                {nested(signal), attach, false},
		"acknowledgement":       {nested(ack), attach, false},
		"signal behind stdin":   {nested(input, signal), attach, false},
		"signal before stdin":   {nested(signal, input), attach, false},
		"second input":          {append(bytes.Clone(plain), nested(signal)...), attach, false},
		"stdin twice":           {nested(input, input), attach, false},
		"cut short":             {plain[:100], attach, false},
		"a tag without an end":  {[]byte{0xff, 0xff}, attach, false},
		"a size without an end": {[]byte{0x0a, 0xff}, attach, false},
		"payload that is none":  {nested(protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), 7)), attach, false},
		"commit of a file":      {encode(&providerv1.WriteFileRequest{Frame: &providerv1.WriteFileRequest_Commit{Commit: &providerv1.WriteFileCommit{}}}), file, false},
	} {
		t.Run(name, func(t *testing.T) {
			var f relay.Frame
			defer f.Free()
			f.Set(c.message)
			if got := f.Bulk(c.path...); got != c.want {
				t.Errorf("Bulk(%v) of %d bytes is %t, want %t", c.path, len(c.message), got, c.want)
			}
		})
	}
}

// What is bulk decodes to nothing but a payload, whatever the bytes are.
func TestBulkIsWellFormed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, err := proto.Marshal(stdin(rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "data")))
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(0, 3).Draw(t, "faults") {
			b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		var f relay.Frame
		defer f.Free()
		f.Set(b)
		if !f.Bulk(1, 2, 2) {
			return
		}
		m := &providerv1.AttachExecRequest{}
		if err := f.Decode(m); err != nil {
			t.Fatalf("bulk %x does not decode: %v", b, err)
		}
		if len(m.GetInput().GetStdin().GetData()) == 0 {
			t.Fatalf("bulk %x holds no stdin: %v", b, m)
		}
	})
}

// BenchmarkRelay is what a relay does with each full frame between receiving and
// sending, beside decoding and encoding it.
func BenchmarkRelay(b *testing.B) {
	encoded, err := proto.Marshal(stdin(bytes.Repeat([]byte("x"), 32<<10)))
	if err != nil {
		b.Fatal(err)
	}
	came := pieces(encoded, []int{16 << 10, 16 << 10})
	pass := func(b *testing.B, v any) {
		b.Helper()
		b.SetBytes(int64(len(encoded)))
		b.ReportAllocs()
		for b.Loop() {
			if err := relay.Codec().Unmarshal(came, v); err != nil {
				b.Fatal(err)
			}
			out, err := relay.Codec().Marshal(v)
			if err != nil {
				b.Fatal(err)
			}
			out.Free()
		}
	}
	b.Run("frame", func(b *testing.B) { pass(b, &relay.Frame{}) })
	b.Run("baseline=message", func(b *testing.B) { pass(b, &providerv1.AttachExecRequest{}) })
}
