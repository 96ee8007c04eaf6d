package pluginhost

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/durationpb"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// instance is one process of a plugin, from launch to cleanup.
type instance struct {
	name   string
	gen    uint64
	binary Binary
	dir    *launchDir
	grace  time.Duration
	log    *slog.Logger
	words  *lastWords
	born   time.Time

	tls        *tls.Config
	clientCert string
	client     *plugin.Client
	runner     runner
	conn       *grpc.ClientConn
	health     grpc_health_v1.HealthClient

	describe *providerv1.DescribeResponse
	reasons  []string // why it is degraded right after the start

	mu     sync.Mutex
	digest string             // "" until it is known
	conns  []*grpc.ClientConn // all that were ever made

	hashing sync.WaitGroup
	hashed  chan struct{} // closed when digest is known, or cannot be

	killOnce sync.Once
}

func (in *instance) keep(cc *grpc.ClientConn) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !slices.Contains(in.conns, cc) {
		in.conns = append(in.conns, cc)
	}
}

func (in *instance) noteStart(pid int) {
	if err := in.dir.started(pid); err != nil {
		// Without a record a killed broker cannot sweep it; it ends itself then.
		in.log.Warn("cannot record the plugin process", "pid", pid, "error", err)
	}
}

// facts is what the status shows of a process.
func (in *instance) facts() facts {
	in.mu.Lock()
	defer in.mu.Unlock()
	return facts{pid: in.runner.pid(), path: in.binary.Path, sha256: in.digest}
}

func (in *instance) settled() <-chan struct{} { return in.hashed }

// hash takes the digest of a program that runs without one, on the side.
func (in *instance) hash(program *os.File) {
	in.hashing.Go(func() {
		defer close(in.hashed)
		defer program.Close()
		pin, err := pinOf(program)
		if err != nil {
			in.log.Warn("cannot take the digest of the plugin binary", "path", in.binary.Path, "error", err)
			return
		}
		in.mu.Lock()
		defer in.mu.Unlock()
		in.digest = pin.SHA256
	})
}

func (in *instance) connection() grpc.ClientConnInterface { return in.conn }

func (in *instance) described() *providerv1.DescribeResponse { return in.describe }

func (in *instance) degraded() []string { return in.reasons }

// gone is closed when the process has ended.
func (in *instance) gone() <-chan struct{} { return in.runner.exited }

// check asks for a sign of life.
func (in *instance) check(ctx context.Context) error {
	resp, err := in.health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: plugin.GRPCServiceName})
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	if resp.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("health check: %s", resp.GetStatus())
	}
	return nil
}

// probe returns why the provider is not ready; nothing if it is.
func (in *instance) probe(ctx context.Context) ([]string, error) {
	resp, err := providerv1.NewProviderServiceClient(in.conn).Probe(ctx, &providerv1.ProbeRequest{})
	if err != nil {
		return nil, err //nolint:wrapcheck // callers say what they did
	}
	return ProbeReasons(resp), nil
}

// ProbeReasons puts into words why a provider is not ready; nothing if it is.
func ProbeReasons(resp *providerv1.ProbeResponse) []string {
	if resp.GetReady() {
		return nil
	}
	var out []string
	for _, c := range resp.GetChecks() {
		if c.GetStatus() != providerv1.ProbeStatus_PROBE_STATUS_FAILED {
			continue
		}
		words := c.GetName() + ": " + c.GetDetail()
		if c.GetRemedy() != "" {
			words += " (" + c.GetRemedy() + ")"
		}
		out = append(out, words)
	}
	if len(out) == 0 {
		out = []string{"the provider is not ready and does not say why"}
	}
	return out
}

// end stops the process in good order: it lets calls in flight finish, within
// the grace, and then ends it. When ctx ends, order ends too.
func (in *instance) end(ctx context.Context) {
	draining, cancel := context.WithTimeout(ctx, in.grace+killGrace)
	defer cancel()
	_, err := providerv1.NewProviderServiceClient(in.conn).Drain(draining, &providerv1.DrainRequest{Grace: durationpb.New(in.grace)})
	if err != nil {
		in.log.Debug("drain was not answered", "error", err)
	}
	if ctx.Err() != nil {
		in.kill() //nolint:contextcheck // ending goes on when ctx has ended
		return
	}
	in.close() //nolint:contextcheck // as above
}

// kill ends the process group at once, and cleans up.
func (in *instance) kill() {
	_ = in.runner.Kill(context.Background())
	in.close()
}

// close makes the process end, by request first, and frees all that the launch
// made. It returns when nothing is left, at most killGrace and drainTimeout
// later, and may be called more than once.
func (in *instance) close() {
	in.killOnce.Do(func() {
		done := make(chan struct{})
		go func() {
			in.client.Kill()
			close(done)
		}()
		timer := time.NewTimer(killGrace)
		defer timer.Stop()
		select {
		case <-done:
		case <-timer.C:
			_ = in.runner.Kill(context.Background())
			<-done
		}
		in.mu.Lock()
		conns := in.conns
		in.mu.Unlock()
		for _, cc := range conns {
			_ = cc.Close()
		}
		in.hashing.Wait()
		if err := in.dir.remove(); err != nil {
			in.log.Warn("cannot remove the launch folder", "path", in.dir.path, "error", err)
		}
	})
}

// farewell says how the process ended and what it said last; valid after gone.
func (in *instance) farewell() string {
	words := fmt.Sprintf("pid %d ended after %s with %s", in.runner.pid(), time.Since(in.born).Round(time.Millisecond), ending(in.runner.err))
	if last := in.words.report(); last != "" {
		words += ": " + last
	}
	return words
}

// explain adds to a failed launch what is known about its process.
func (in *instance) explain(ctx context.Context, err error) error {
	var words []string
	if ctx.Err() != nil {
		words = append(words, context.Cause(ctx).Error())
	}
	select {
	case <-in.gone():
		words = append(words, in.farewell())
	default:
	}
	// go-plugin repeats the diagnosis in some of its messages.
	first, _, _ := strings.Cut(err.Error(), "\n")
	text := strings.Join(append([]string{first}, words...), "; ")
	explained := fmt.Errorf("provider %q did not start: %s", in.name, text)
	var hopeless hopelessError
	if errors.As(err, &hopeless) {
		return hopelessError{explained}
	}
	return explained
}
