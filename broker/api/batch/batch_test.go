package batch_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/broker/api/batch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve serves a handler over HTTP/2 on a Unix socket and returns a client. plain
// leaves batches out.
func serve(tb testing.TB, handler http.HandlerFunc, plain bool) *http.Client {
	tb.Helper()
	socket := filepath.Join(tb.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		tb.Fatal(err)
	}
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	wire := &http.Transport{Protocols: h2, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	var h http.Handler = handler
	var rt http.RoundTripper = wire
	if !plain {
		h, rt = batch.Handler(handler), batch.Transport(wire)
	}
	server := &http.Server{Handler: h, Protocols: h2, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	tb.Cleanup(func() {
		wire.CloseIdleConnections()
		if err := server.Close(); err != nil {
			tb.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			tb.Error(err)
		}
	})
	return &http.Client{Transport: rt}
}

func post(tb testing.TB, c *http.Client, body io.Reader) *http.Response {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, "http://test/", body)
	if err != nil {
		tb.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	return res
}

// echo sends back what it reads, flushing after each piece, and then a trailer.
func echo(tb testing.TB) http.HandlerFunc {
	tb.Helper()
	return func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush() // the client may wait for the answer's header
		buf := make([]byte, 40<<10)
		for {
			n, err := r.Body.Read(buf)
			if _, werr := w.Write(buf[:n]); werr != nil {
				tb.Error(werr)
				return
			}
			w.(http.Flusher).Flush()
			if err != nil {
				w.Header().Set(http.TrailerPrefix+"End", err.Error())
				return
			}
		}
	}
}

// All bytes arrive, in order, before the trailers, whatever the sizes of the
// pieces, in both directions at once.
func TestBytesArriveInOrder(t *testing.T) {
	c := serve(t, echo(t), false)
	r, w := io.Pipe()
	sent := sha256.New()
	go func() {
		random := rand.New(rand.NewPCG(1, 2))
		for left := 8 << 20; left > 0; {
			piece := make([]byte, min(left, []int{0, 1, 5, 700, 32 << 10, 300 << 10}[random.IntN(6)]))
			for i := range piece {
				piece[i] = byte(random.Uint32())
			}
			sent.Write(piece)
			if _, err := w.Write(piece); err != nil {
				t.Error(err)
			}
			left -= len(piece)
		}
		_ = w.Close()
	}()
	res := post(t, c, r)
	got := sha256.New()
	if _, err := io.Copy(got, res.Body); err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Sum(nil), sent.Sum(nil)) {
		t.Error("what came back is not what was sent")
	}
	if end := res.Trailer.Get("End"); end != "EOF" {
		t.Errorf("trailer is %q, want EOF", end)
	}
}

// A message that comes alone does not wait for company.
func TestOneMessageIsNotKeptBack(t *testing.T) {
	c := serve(t, echo(t), false)
	r, w := io.Pipe()
	res := post(t, c, r)
	for _, word := range []string{"a", "bc", "def"} {
		if _, err := io.WriteString(w, word); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(word))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != word {
			t.Fatalf("got %q, %v; want %q", got, err, word)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(res.Body); len(rest) > 0 || err != nil {
		t.Errorf("behind the end came %q, %v", rest, err)
	}
	_ = res.Body.Close()
}

// A client that stops reading stops the handler, which learns when the client
// leaves. Nothing is left running.
func TestSlowClientStopsTheHandler(t *testing.T) {
	const enough = 64 << 20 // is more than all buffers on the way
	var written atomic.Int64
	ended := make(chan error, 1)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		piece := make([]byte, 32<<10)
		for written.Load() < enough {
			if _, err := w.Write(piece); err != nil {
				ended <- err
				return
			}
			w.(http.Flusher).Flush()
			written.Add(int64(len(piece)))
		}
		ended <- nil
	}, false)
	res := post(t, c, http.NoBody)
	if _, err := io.ReadFull(res.Body, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Errorf("the handler wrote %d bytes for a client that read one MiB", written.Load())
	}
}

// A handler that does not read a request's body does not keep what writes it.
func TestUnreadRequestEnds(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }, false)
	r, w := io.Pipe()
	wrote := make(chan error, 1)
	go func() {
		piece := make([]byte, 32<<10)
		for {
			if _, err := w.Write(piece); err != nil {
				wrote <- err
				return
			}
		}
	}()
	res := post(t, c, r)
	if res.StatusCode != http.StatusTeapot {
		t.Errorf("status %d", res.StatusCode)
	}
	_ = res.Body.Close()
	if err := <-wrote; !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("writing ended with %v, want %v", err, io.ErrClosedPipe)
	}
}

// A handler can still stop its own reading.
func TestReadDeadline(t *testing.T) {
	read := make(chan error, 1)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		go func() {
			_, err := r.Body.Read(make([]byte, 1))
			read <- err
		}()
		if err := http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)); err != nil {
			t.Error(err)
		}
		if err := <-read; err == nil {
			t.Error("reading went on past the deadline")
		}
	}, false)
	r, w := io.Pipe()
	_ = post(t, c, r).Body.Close()
	_ = w.Close()
}

// BenchmarkStream carries messages of a full frame each way, as Connect writes
// them: five bytes and the rest, then a flush.
func BenchmarkStream(b *testing.B) {
	const frame, total = 32 << 10, 32 << 20
	for name, plain := range map[string]bool{"batched": false, "baseline=plain": true} {
		b.Run("down/"+name, func(b *testing.B) {
			c := serve(b, func(w http.ResponseWriter, _ *http.Request) { send(b, w, total, frame) }, plain)
			b.SetBytes(total)
			for b.Loop() {
				receive(b, post(b, c, http.NoBody).Body, frame)
			}
		})
		b.Run("up/"+name, func(b *testing.B) {
			c := serve(b, func(_ http.ResponseWriter, r *http.Request) { receive(b, r.Body, frame) }, plain)
			b.SetBytes(total)
			for b.Loop() {
				r, w := io.Pipe()
				go func() {
					send(b, w, total, frame)
					_ = w.Close()
				}()
				_ = post(b, c, r).Body.Close()
			}
		})
	}
}

func send(b *testing.B, w io.Writer, total, frame int) {
	b.Helper()
	piece := make([]byte, frame)
	for range total / frame {
		_, err := w.Write(piece[:5])
		if err == nil {
			_, err = w.Write(piece)
		}
		if err != nil {
			b.Error(err)
			return
		}
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
	}
}

func receive(b *testing.B, r io.ReadCloser, frame int) {
	b.Helper()
	piece := make([]byte, frame)
	for {
		_, err := io.ReadFull(r, piece[:5])
		if errors.Is(err, io.EOF) {
			_ = r.Close()
			return
		}
		if err == nil {
			_, err = io.ReadFull(r, piece)
		}
		if err != nil {
			b.Error(err)
			return
		}
	}
}
