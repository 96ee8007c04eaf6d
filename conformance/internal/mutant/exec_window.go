package mutant

import (
	"sync"

	"google.golang.org/grpc"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// oneWindow lets all attachments of a sandbox share how much may be on its way to
// readers that have not acknowledged it.
func oneWindow() grpc.StreamServerInterceptor {
	windows := newMemory[*window]()
	return attaching(func(a *attachment) {
		w := windows.change(a.open.GetSandbox().GetSandboxId(), func(w *window) *window {
			if w == nil {
				w = &window{debts: map[*attachment]*debt{}, changed: make(chan struct{})}
			}
			return w
		})
		mine := &debt{}
		w.change(func() { w.debts[a] = mine })
		a.in = func(f *input) []*input {
			if f.GetAck() != nil {
				w.change(func() { mine.acked = f.GetAck().GetStdout() })
			}
			return []*input{f}
		}
		a.out = func(f *output) []*output {
			if d := f.GetData(); d.GetStream() == providerv1.ExecStream_EXEC_STREAM_STDOUT && len(d.GetData()) > 0 {
				w.await(a)
				w.change(func() { mine.sent = d.GetOffset() + int64(len(d.GetData())) })
			}
			return []*output{f}
		}
		a.end = func(_ grpc.ServerStream, err error) error {
			w.change(func() { delete(w.debts, a) })
			return err
		}
	})
}

// window is what the attachments of one sandbox share.
type window struct {
	mu      sync.Mutex
	debts   map[*attachment]*debt
	changed chan struct{} // closed and replaced at each change
}

// debt is how far an attachment's reader is behind.
type debt struct{ sent, acked int64 }

func (w *window) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	close(w.changed)
	w.changed = make(chan struct{})
}

// await waits while the other attachments have used the window up.
func (w *window) await(a *attachment) {
	const most = 64 << 10
	for {
		w.mu.Lock()
		var owed int64
		for other, d := range w.debts {
			if other != a {
				owed += max(0, d.sent-d.acked)
			}
		}
		changed := w.changed
		w.mu.Unlock()
		if owed <= most {
			return
		}
		select {
		case <-changed:
		case <-a.done:
			return
		}
	}
}
