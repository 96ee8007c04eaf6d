package telemetry

import (
	"slices"
	"strings"
)

// Kind is what a metric's numbers mean.
type Kind string

// The kinds.
const (
	// Counter only grows.
	Counter Kind = "counter"
	// Gauge goes up and down.
	Gauge Kind = "gauge"
	// Histogram counts observations by size.
	Histogram Kind = "histogram"
)

// Definition is one metric.
type Definition struct {
	// Name is the one of OpenTelemetry. Prometheus writes its dots as underscores and
	// adds the unit and, for a counter, total.
	Name string
	Kind Kind
	// Unit is one of UCUM's: s, By, or a word in braces for things counted.
	Unit string
	// Labels are the names of its labels.
	Labels []string
	// Help is what it says, in one sentence.
	Help string
}

// The names of the metrics.
const (
	nameOperations    = "sandbar.operations"
	nameOperationTime = "sandbar.operation.duration"
	nameSandboxes     = "sandbar.sandboxes"
	nameOrphans       = "sandbar.orphans.deleted"
	nameCalls         = "sandbar.provider.calls"
	nameCallTime      = "sandbar.provider.call.duration"
	nameCircuit       = "sandbar.provider.circuit"
	namePluginState   = "sandbar.plugin.state"
	namePluginStarts  = "sandbar.plugin.starts"
	nameExecs         = "sandbar.execs"
	nameExecTime      = "sandbar.exec.attached.duration"
	nameStreams       = "sandbar.streams.open"
	nameStreamBytes   = "sandbar.stream.transferred"
	nameRPCs          = "sandbar.rpc.calls"
	nameRPCTime       = "sandbar.rpc.duration"
	nameRPCOpen       = "sandbar.rpc.open"
	nameQueue         = "sandbar.queue.depth"
	nameBuild         = "sandbar.build.info"
	nameWebhooks      = "sandbar.webhook.attempts"
	nameWebhookTime   = "sandbar.webhook.attempt.duration"
)

// The names of labels.
const (
	labelProvider  = "provider"
	labelOperation = "operation"
	labelOutcome   = "outcome"
	labelState     = "state"
	labelMethod    = "method"
	labelCause     = "cause"
	labelStream    = "stream"
	labelDirection = "direction"
	labelQueue     = "queue"
	labelVersion   = "version"
)

// Prometheus returns the name that Prometheus knows it by.
func (d Definition) Prometheus() string {
	name := strings.ReplaceAll(d.Name, ".", "_")
	switch d.Unit {
	case "s":
		name += "_seconds"
	case "By":
		name += "_bytes"
	}
	if d.Kind == Counter {
		name += "_total"
	}
	return name
}

var definitions = []Definition{
	{
		nameOperations, Counter, "{operation}",
		[]string{labelProvider, labelOperation, labelOutcome},
		"Changes to sandboxes that were asked of a provider: create, restore, fork, pause, resume, delete, snapshot. The outcome is ok or the reason of the error.",
	},
	{
		nameOperationTime, Histogram, "s",
		[]string{labelProvider, labelOperation, labelOutcome},
		"How long they took, with all attempts and, for what makes sandboxes, the wait until they can be used. The outcome is ok or failed.",
	},
	{
		nameSandboxes, Gauge, "{sandbox}",
		[]string{labelProvider, labelState},
		"Sandboxes that are not gone, by the state that is stored. Brokers that share a database each tell all of them.",
	},
	{
		nameOrphans, Counter, "{sandbox}",
		[]string{labelProvider},
		"Objects of this broker at a vendor that no sandbox stood for, and that were deleted.",
	},
	{
		nameCalls, Counter, "{call}",
		[]string{labelProvider, labelMethod, labelOutcome},
		"Calls to a plugin; each attempt counts. Of a stream, whether it could be opened.",
	},
	{
		nameCallTime, Histogram, "s",
		[]string{labelProvider, labelMethod, labelOutcome},
		"How long unary calls to a plugin took. The outcome is ok or failed.",
	},
	{
		nameCircuit, Gauge, "{circuit}",
		[]string{labelProvider, labelState},
		"1 for the state that the circuit of a provider is in, else 0: closed, open, half_open.",
	},
	{
		namePluginState, Gauge, "{plugin}",
		[]string{labelProvider, labelState},
		"1 for the state that a plugin is in, else 0.",
	},
	{
		namePluginStarts, Counter, "{start}",
		[]string{labelProvider},
		"Processes of a plugin that this broker started; all but the first are restarts.",
	},
	{
		nameExecs, Counter, "{command}",
		[]string{labelProvider, labelCause},
		"Commands whose end was seen by somebody attached, by whose doing it was: task, signaled, timeout, sandbox, provider, unknown.",
	},
	{
		nameExecTime, Histogram, "s",
		[]string{labelProvider},
		"How long those attachments lasted; with a command that is followed from its start, how long it ran.",
	},
	{
		nameStreams, Gauge, "{stream}",
		[]string{labelProvider, labelStream},
		"Streams through the broker that are open: exec, tunnel, file, archive.",
	},
	{
		nameStreamBytes, Counter, "By",
		[]string{labelProvider, labelStream, labelDirection},
		"Bytes of messages on them: in is towards the sandbox, out is from it.",
	},
	{
		nameRPCs, Counter, "{call}",
		[]string{labelMethod, labelOutcome},
		"Calls of the broker's API that were let in.",
	},
	{
		nameRPCTime, Histogram, "s",
		[]string{labelMethod, labelOutcome},
		"How long they took; of streams, how long they were open. The outcome is ok or failed.",
	},
	{
		nameRPCOpen, Gauge, "{call}",
		[]string{labelMethod},
		"Calls of the API that are under way.",
	},
	{
		nameQueue, Gauge, "{entry}",
		[]string{labelQueue},
		"What waits for the reconciler: due (its time has come), recheck (somebody saw that it is not as stored), snapshots (providers with unsettled ones).",
	},
	{
		nameWebhooks, Counter, "{attempt}",
		[]string{labelOutcome},
		"Attempts to deliver a message to a webhook: ok, refused (a status that is no success), timeout, unreachable, forbidden (an address that the configuration does not allow), unsigned (its secret cannot be read).",
	},
	{
		nameWebhookTime, Histogram, "s",
		[]string{labelOutcome},
		"How long they took. The outcome is ok or failed.",
	},
	{
		nameBuild, Gauge, "",
		[]string{labelVersion},
		"1, with the version of the broker.",
	},
}

// Definitions returns all metrics, in the order in which they are documented.
func Definitions() []Definition { return slices.Clone(definitions) }

func definition(name string) Definition {
	i := slices.IndexFunc(definitions, func(d Definition) bool { return d.Name == name })
	return definitions[i]
}
