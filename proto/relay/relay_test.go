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

func TestWithin(t *testing.T) {
	const input, in, signal = 1, 2, 6
	encode := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	plain := encode(stdin(bytes.Repeat([]byte("x"), 32<<10)))
	kill := encode(&providerv1.AttachExecRequest{Input: &providerv1.ExecInput{Frame: &providerv1.ExecInput_Signal{
		Signal: providerv1.ExecSignal_EXEC_SIGNAL_KILL,
	}}})
	// A field that is there twice is merged by a decoder: the second could hide
	// behind the first.
	twice := append(bytes.Clone(plain), kill...)
	inner := append(encode(stdin([]byte("x")).GetInput()), encode(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Signal{Signal: 1}})...)
	nested := protowire.AppendBytes(protowire.AppendTag(nil, input, protowire.BytesType), inner)
	for name, c := range map[string]struct {
		message []byte
		path    []protowire.Number
		want    bool
	}{
		"stdin":                  {plain, []protowire.Number{input, in}, true},
		"input":                  {plain, []protowire.Number{input}, true},
		"nothing is not stdin":   {nil, []protowire.Number{input, in}, false},
		"signal is not stdin":    {kill, []protowire.Number{input, in}, false},
		"signal is no message":   {kill, []protowire.Number{input, signal}, false},
		"signal behind stdin":    {twice, []protowire.Number{input, in}, false},
		"signal beside stdin":    {nested, []protowire.Number{input, in}, false},
		"cut short":              {plain[:100], []protowire.Number{input, in}, false},
		"a tag without an end":   {[]byte{0xff, 0xff}, []protowire.Number{input}, false},
		"a length without a end": {[]byte{0x0a, 0xff}, []protowire.Number{input}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var f relay.Frame
			defer f.Free()
			f.Set(c.message)
			if got := f.Within(c.path...); got != c.want {
				t.Errorf("Within(%v) of %d bytes is %t, want %t", c.path, len(c.message), got, c.want)
			}
		})
	}
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
