package sdk

import (
	"strings"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// method is what the SDK knows about an RPC beyond its descriptor.
type method struct {
	full string
	name string
	// effect is what a call that was cut short may have done.
	effect providerv1.Effect
	// unconfigured methods are served before the first Configure.
	unconfigured bool
	// newWork is refused while draining.
	newWork bool
	// endless streams end only because a side wants it.
	endless bool
}

// reads are the methods that change nothing.
var reads = set("Describe", "Probe", "GetSandbox", "ListSandboxes", "Recover", "AttachExec", "GetExec", "ListExecs",
	"ListSnapshots", "ReadFile", "StatFile", "ListFiles", "DiffFiles", "DownloadArchive", "ListPorts", "GetPortURL",
	"OpenTunnel", "WatchFlows", "GetUsage", "WatchSandboxes", "ListVolumes", "Drain")

var (
	unconfigured = set("Describe", "Configure", "Drain")
	newWork      = set("CreateSandbox", "StartExec", "RestoreSnapshot", "ForkSandbox", "CreateSnapshot", "CreateVolume")
	endless      = set("WatchFlows", "WatchSandboxes")
)

func set(names ...string) map[string]bool {
	out := make(map[string]bool, len(names))
	for _, n := range names {
		out[n] = true
	}
	return out
}

func methodOf(full string) method {
	name := full[strings.LastIndexByte(full, '/')+1:]
	m := method{
		full: full, name: name, effect: providerv1.Effect_EFFECT_UNKNOWN,
		unconfigured: unconfigured[name], newWork: newWork[name], endless: endless[name],
	}
	if reads[name] {
		m.effect = providerv1.Effect_EFFECT_NONE
	}
	return m
}
