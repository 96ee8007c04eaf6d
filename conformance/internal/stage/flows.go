package stage

import (
	"context"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Flows are the flows that are announced while it watches.
type Flows struct {
	t      *engine.T
	cancel context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	changed chan struct{} // closed and replaced with each flow
	flows   []*providerv1.Flow
	heard   bool
	err     error
}

// WatchFlows watches for the flows of an owner until Stop, or the case's end.
func WatchFlows(t *engine.T, owner string) *Flows {
	ctx, cancel := context.WithCancel(t.Context())
	w := &Flows{t: t, cancel: cancel, ended: make(chan struct{}), changed: make(chan struct{})}
	t.Cleanup(func(context.Context) { w.Stop() })
	stream, err := t.Client().WatchFlows(ctx, &providerv1.WatchFlowsRequest{Owner: owner})
	if err != nil {
		close(w.ended)
		t.Fatalf("WatchFlows: %s: want it to go on", subject.Describe(err))
	}
	go func() {
		defer close(w.ended)
		for {
			resp, err := stream.Recv()
			w.mu.Lock()
			if err == nil {
				w.flows, w.heard = append(w.flows, resp.GetFlow()), true
			}
			w.err = err
			close(w.changed)
			w.changed = make(chan struct{})
			w.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return w
}

// Stop ends the watch.
func (w *Flows) Stop() {
	w.cancel()
	<-w.ended
}

// Next waits for a flow that no call of Next has returned yet, and that is chosen;
// nil if none comes in time.
func (w *Flows) Next(within time.Duration, chosen func(*providerv1.Flow) bool) *providerv1.Flow {
	timer := time.NewTimer(within)
	defer timer.Stop()
	for {
		w.mu.Lock()
		for i, f := range w.flows {
			if chosen(f) {
				w.flows = append(w.flows[:i], w.flows[i+1:]...)
				w.mu.Unlock()
				return f
			}
		}
		changed, err := w.changed, w.err
		w.mu.Unlock()
		if err != nil {
			w.t.Fatalf("WatchFlows ended with %s: want it to go on", subject.Describe(err))
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil
		case <-w.t.Context().Done():
			w.t.Fatalf("the case's budget ended while it waited for a flow")
		}
	}
}

// Heard reports whether any flow has been announced.
func (w *Flows) Heard() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heard
}

// Rest returns the flows that no call of Next has returned.
func (w *Flows) Rest() []*providerv1.Flow {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*providerv1.Flow(nil), w.flows...)
}

// Carry lets a flow out and carries it.
func Carry(t *engine.T, f *providerv1.Flow) *Tunnel {
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := t.Client().CarryFlow(ctx)
	if err != nil {
		cancel()
		OK(t, "CarryFlow", err)
	}
	c, err := opened(t, cancel, flowFrames{stream}, flowOpen(f),
		&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Opened{Opened: &providerv1.TunnelOpened{}}})
	OK(t, "CarryFlow of "+f.GetFlowId(), err)
	go c.read()
	return c
}

// Refuse refuses a flow.
func Refuse(t *engine.T, f *providerv1.Flow) {
	stream, err := t.Client().CarryFlow(t.Context())
	OK(t, "CarryFlow", err)
	_ = stream.Send(&providerv1.CarryFlowRequest{Frame: flowOpen(f)}) // Recv tells the error
	_ = stream.CloseSend()
	for err == nil {
		_, err = stream.Recv() // what it ends with says nothing that the sandbox does not
	}
}

func flowOpen(f *providerv1.Flow) *providerv1.TunnelFrame {
	open := &providerv1.TunnelOpen{Target: &providerv1.TunnelOpen_FlowId{FlowId: f.GetFlowId()}}
	return &providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Open{Open: open}}
}
