package telemetry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// scope names the instrumentation.
const scope = "github.com/sandbar-dev/sandbar/broker"

// seconds are the bounds of durations: from a call inside one machine to the
// minute that making a sandbox may take, and beyond for streams.
var seconds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 3600}

// OK is the outcome of what succeeded.
const OK = "ok"

// failed is the outcome of durations of all that did not: by reason they would be
// too many series.
const failed = "failed"

// Metrics are the instruments. All methods are safe for concurrent use.
type Metrics struct {
	meter  metric.Meter
	recent *recent

	operations, orphans, calls, execs, streamBytes, rpcs, webhooks metric.Int64Counter
	operationTime, callTime, execTime, rpcTime, webhookTime        metric.Float64Histogram
	streams, rpcOpen                                               metric.Int64UpDownCounter
}

// New makes the instruments of a provider of meters.
func New(p metric.MeterProvider) (*Metrics, error) {
	m := &Metrics{meter: p.Meter(scope), recent: newRecent()}
	var errs []error
	for name, at := range map[string]*metric.Int64Counter{
		nameOperations: &m.operations, nameOrphans: &m.orphans, nameCalls: &m.calls,
		nameExecs: &m.execs, nameStreamBytes: &m.streamBytes, nameRPCs: &m.rpcs,
		nameWebhooks: &m.webhooks,
	} {
		d := definition(name)
		c, err := m.meter.Int64Counter(name, metric.WithUnit(d.Unit), metric.WithDescription(d.Help))
		*at, errs = c, append(errs, err)
	}
	for name, at := range map[string]*metric.Float64Histogram{
		nameOperationTime: &m.operationTime, nameCallTime: &m.callTime, nameExecTime: &m.execTime, nameRPCTime: &m.rpcTime,
		nameWebhookTime: &m.webhookTime,
	} {
		d := definition(name)
		h, err := m.meter.Float64Histogram(name, metric.WithUnit(d.Unit), metric.WithDescription(d.Help), metric.WithExplicitBucketBoundaries(seconds...))
		*at, errs = h, append(errs, err)
	}
	for name, at := range map[string]*metric.Int64UpDownCounter{nameStreams: &m.streams, nameRPCOpen: &m.rpcOpen} {
		d := definition(name)
		c, err := m.meter.Int64UpDownCounter(name, metric.WithUnit(d.Unit), metric.WithDescription(d.Help))
		*at, errs = c, append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("make metrics: %w", err)
	}
	return m, nil
}

// Discard returns metrics that nobody reads. What happened lately is remembered
// all the same.
func Discard() *Metrics {
	m, err := New(noop.NewMeterProvider())
	if err != nil { // it makes what it is asked for
		panic(err)
	}
	return m
}

// Outcome returns the label that an error is counted by: OK for none, else its
// reason. It is one of a bounded set whatever a plugin says.
func Outcome(err error) string {
	if err == nil {
		return OK
	}
	f := fault.From(err)
	if fault.InfoOf(f.Reason) == nil {
		return "UNKNOWN"
	}
	return fault.Name(f.Reason)
}

func okOrFailed(err error) string {
	if err == nil {
		return OK
	}
	return failed
}

// Operation is a change to sandboxes.
type Operation string

// The operations.
const (
	Create   Operation = "create"
	Restore  Operation = "restore"
	Fork     Operation = "fork"
	Pause    Operation = "pause"
	Resume   Operation = "resume"
	Delete   Operation = "delete"
	Snapshot Operation = "snapshot"
)

// Activity returns what happened at each provider within the last minute, or since
// m was made; window is how long that is.
func (m *Metrics) Activity() (window time.Duration, _ map[string]Activity) {
	return m.recent.activity()
}

// Operation counts a change that was asked of a provider.
func (m *Metrics) Operation(ctx context.Context, provider string, op Operation, took time.Duration, err error) {
	k := changing
	if op == Create || op == Restore || op == Fork {
		k = creating
	}
	m.recent.add(provider, k, took, err == nil)
	on, what := attribute.String(labelProvider, provider), attribute.String(labelOperation, string(op))
	m.operations.Add(ctx, 1, metric.WithAttributes(on, what, attribute.String(labelOutcome, Outcome(err))))
	m.operationTime.Record(ctx, took.Seconds(), metric.WithAttributes(on, what, attribute.String(labelOutcome, okOrFailed(err))))
}

// OrphanDeleted counts an object that no sandbox stood for.
func (m *Metrics) OrphanDeleted(ctx context.Context, provider string) {
	m.orphans.Add(ctx, 1, metric.WithAttributes(attribute.String(labelProvider, provider)))
}

// Call counts an attempt of a unary call to a provider; method is the full one of
// gRPC.
func (m *Metrics) Call(ctx context.Context, provider, method string, took time.Duration, err error) {
	if short(method) == "StartExec" {
		m.recent.add(provider, starting, took, err == nil)
	}
	on, what := attribute.String(labelProvider, provider), attribute.String(labelMethod, short(method))
	m.calls.Add(ctx, 1, metric.WithAttributes(on, what, attribute.String(labelOutcome, Outcome(err))))
	m.callTime.Record(ctx, took.Seconds(), metric.WithAttributes(on, what, attribute.String(labelOutcome, okOrFailed(err))))
}

// Open counts an attempt to open a stream to a provider.
func (m *Metrics) Open(ctx context.Context, provider, method string, err error) {
	m.calls.Add(ctx, 1, metric.WithAttributes(
		attribute.String(labelProvider, provider), attribute.String(labelMethod, short(method)), attribute.String(labelOutcome, Outcome(err))))
}

func short(method string) string { return method[strings.LastIndexByte(method, '/')+1:] }

// RPC counts a call of the API until the function that it returns is called.
func (m *Metrics) RPC(ctx context.Context, procedure string) (end func(err error)) {
	began, what := time.Now(), attribute.String(labelMethod, short(procedure))
	m.rpcOpen.Add(ctx, 1, metric.WithAttributes(what))
	return func(err error) {
		m.rpcOpen.Add(ctx, -1, metric.WithAttributes(what))
		m.rpcs.Add(ctx, 1, metric.WithAttributes(what, attribute.String(labelOutcome, Outcome(err))))
		m.rpcTime.Record(ctx, time.Since(began).Seconds(), metric.WithAttributes(what, attribute.String(labelOutcome, okOrFailed(err))))
	}
}

// Webhook counts an attempt to deliver a message to a webhook; outcome is OK or
// one of few words.
func (m *Metrics) Webhook(ctx context.Context, outcome string, took time.Duration) {
	m.webhooks.Add(ctx, 1, metric.WithAttributes(attribute.String(labelOutcome, outcome)))
	if outcome != OK {
		outcome = failed
	}
	m.webhookTime.Record(ctx, took.Seconds(), metric.WithAttributes(attribute.String(labelOutcome, outcome)))
}

// StreamKind is what a stream through the broker carries.
type StreamKind string

// The kinds of streams.
const (
	ExecStream    StreamKind = "exec"
	TunnelStream  StreamKind = "tunnel"
	FileStream    StreamKind = "file"
	ArchiveStream StreamKind = "archive"
)

// Stream is one stream through the broker. In, Out and Ended may be called by
// several goroutines.
type Stream struct {
	m        *Metrics
	ctx      context.Context //nolint:containedctx // of the stream
	began    time.Time
	name     string
	provider attribute.KeyValue
	of       metric.MeasurementOption
	in, out  metric.MeasurementOption
}

// Stream counts an open stream until its Close.
func (m *Metrics) Stream(ctx context.Context, provider string, kind StreamKind) *Stream {
	on, what := attribute.String(labelProvider, provider), attribute.String(labelStream, string(kind))
	s := &Stream{
		m: m, ctx: ctx, began: time.Now(), name: provider, provider: on, of: metric.WithAttributeSet(attribute.NewSet(on, what)),
		in:  metric.WithAttributeSet(attribute.NewSet(on, what, attribute.String(labelDirection, "in"))),
		out: metric.WithAttributeSet(attribute.NewSet(on, what, attribute.String(labelDirection, "out"))),
	}
	m.streams.Add(ctx, 1, s.of)
	m.recent.stream(provider, 1)
	return s
}

// In counts bytes towards the sandbox.
func (s *Stream) In(bytes int) { s.m.streamBytes.Add(s.ctx, int64(bytes), s.in) }

// Out counts bytes from the sandbox.
func (s *Stream) Out(bytes int) { s.m.streamBytes.Add(s.ctx, int64(bytes), s.out) }

// Close ends the stream.
func (s *Stream) Close() {
	s.m.streams.Add(s.ctx, -1, s.of)
	s.m.recent.stream(s.name, -1)
}

var causes = map[providerv1.ExitCause]string{
	providerv1.ExitCause_EXIT_CAUSE_TASK: "task", providerv1.ExitCause_EXIT_CAUSE_SIGNALED: "signaled",
	providerv1.ExitCause_EXIT_CAUSE_TIMEOUT: "timeout", providerv1.ExitCause_EXIT_CAUSE_SANDBOX: "sandbox",
	providerv1.ExitCause_EXIT_CAUSE_PROVIDER: "provider",
}

// Ended counts the end of the command that the stream is attached to.
func (s *Stream) Ended(cause providerv1.ExitCause) {
	word, ok := causes[cause]
	if !ok {
		word = "unknown"
	}
	s.m.execs.Add(s.ctx, 1, metric.WithAttributes(s.provider, attribute.String(labelCause, word)))
	s.m.execTime.Record(s.ctx, time.Since(s.began).Seconds(), metric.WithAttributes(s.provider))
}
