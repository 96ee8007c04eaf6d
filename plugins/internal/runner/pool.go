package runner

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// ErrGone is what Host.Open wraps when what the runner printed is gone for good.
var ErrGone = errors.New("there is nothing to open any more")

// Host is what the vendor does for one command.
type Host interface {
	// Open returns what the runner printed, from its first line, and what it prints
	// from now on. ctx is for opening: the stream lives until Close.
	Open(ctx context.Context) (Stream, error)
	// WriteFile writes a file inside the sandbox. It may be seen half written.
	WriteFile(ctx context.Context, name string, content []byte) error
	// Signal sends a signal, such as TERM, to a process group, and reports whether
	// there was one.
	Signal(ctx context.Context, group int64, signal string) (bool, error)
	// End asks the runner to terminate, which then ends its command.
	End(ctx context.Context) error
	// Free is called when the runner has said everything, or was told to leave: what
	// the vendor keeps of it can go when it has left.
	Free(ctx context.Context) error
	// Gone reports whether the vendor says that the sandbox has ended.
	Gone(ctx context.Context) bool
}

// Stream is text as it comes. It has one reader; Close may come from anywhere, makes
// Next return, and can be repeated.
type Stream interface {
	// Next returns the next piece of text, and whether it came on standard error.
	// Any error ends the stream, and says nothing about the command.
	Next() (stderr bool, text string, err error)
	Close()
}

// Pool owns what follows commands.
type Pool struct {
	log  *slog.Logger
	life context.Context //nolint:containedctx // commands outlive the calls that start them
	end  context.CancelFunc
	mu   sync.Mutex
	work sync.WaitGroup
}

// NewPool returns an empty pool. Close it.
func NewPool(log *slog.Logger) *Pool {
	p := &Pool{log: log}
	p.life, p.end = context.WithCancel(context.Background())
	return p
}

// Close ends everything that was started here, and waits for it. Commands go on.
func (p *Pool) Close() {
	p.mu.Lock()
	p.end()
	p.mu.Unlock()
	p.work.Wait()
}

// spawn runs a goroutine that Close waits for, unless the pool is closed.
func (p *Pool) spawn(do func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life.Err() != nil {
		return false
	}
	p.work.Go(do)
	return true
}

// Background runs what outlives the call that starts it, unless the pool is closed.
// ctx ends after limit, and with the pool.
func (p *Pool) Background(limit time.Duration, do func(ctx context.Context)) {
	p.spawn(func() {
		ctx, cancel := context.WithTimeout(p.life, limit)
		defer cancel()
		do(ctx)
	})
}
