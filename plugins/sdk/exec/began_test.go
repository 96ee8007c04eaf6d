package exec

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// slowNews is a process that was asked for long before it was known to run.
type slowNews struct {
	*dyingProcess
	asked time.Time
}

func (p slowNews) Began() time.Time { return p.asked }

// TestBegan: a record begins when its process says; the time limit does not.
func TestBegan(t *testing.T) {
	table := NewTable(Options{})
	defer table.Close()
	p := slowNews{&dyingProcess{killed: make(chan struct{})}, time.Now().Add(-time.Hour)}
	key := Key{"sbx", "exe"}
	got, err := table.Start(t.Context(), key, nil, &providerv1.ExecSpec{Argv: []string{"x"}, Timeout: durationpb.New(30 * time.Minute)},
		func(context.Context) (Process, error) { return p, nil })
	if err != nil {
		t.Fatal(err)
	}
	if !got.GetStartedAt().AsTime().Equal(p.asked) {
		t.Errorf("it began at %s: want %s, as the process says", got.GetStartedAt().AsTime(), p.asked)
	}
	if s := table.sessions[key]; time.Until(s.deadline) < 20*time.Minute {
		t.Errorf("its time limit is at %s: want half an hour from when it runs", s.deadline)
	}
	close(p.killed)
}
