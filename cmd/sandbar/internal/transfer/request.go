package transfer

import (
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/portable"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Labels of sandboxes that a transfer made. The value of the first two is the id of
// the sandbox that the files are from.
const (
	// MovedFrom is of a sandbox that is to take the place of another.
	MovedFrom = "sandbar.dev/moved-from"
	// CopiedFrom is of one whose source is kept.
	CopiedFrom = "sandbar.dev/copied-from"
	// Attempt tells the attempts of a move apart.
	Attempt = "sandbar.dev/move"
	// MovedName has the name that goes over from the one to the other with a move.
	MovedName = "sandbar.dev/moved-name"
	// FromSnapshot has the digest of a manifest.
	FromSnapshot = "sandbar.dev/snapshot"
)

// Request returns what to ask for to get a sandbox like another one. Its time to live
// begins anew.
func Request(sb *brokerv1.Sandbox) *brokerv1.CreateSandboxRequest {
	req := &brokerv1.CreateSandboxRequest{Spec: proto.CloneOf(sb.GetSpec()), Labels: maps.Clone(sb.GetLabels()), Idle: proto.CloneOf(sb.GetIdle())}
	if req.Spec == nil {
		req.Spec = &providerv1.SandboxSpec{}
	}
	// The broker asks the provider for it where that can be.
	req.Spec.Lifetime = nil
	if end := sb.GetExpiresAt(); end != nil {
		req.Lifetime = durationpb.New(end.AsTime().Sub(sb.GetCreatedAt().AsTime()))
	}
	for _, key := range []string{MovedFrom, CopiedFrom, Attempt, MovedName, FromSnapshot} {
		delete(req.Labels, key)
	}
	return req
}

// part is a part of what a sandbox was asked for that can be left out.
type part struct {
	name string
	// has reports whether it is there; foreign, whether it means nothing elsewhere.
	has     func(*providerv1.SandboxSpec) bool
	foreign func(*providerv1.SandboxSpec) bool
	clear   func(*providerv1.SandboxSpec)
	why     func(*providerv1.SandboxSpec) string
}

func always(*providerv1.SandboxSpec) bool { return true }
func never(*providerv1.SandboxSpec) bool  { return false }

var parts = []part{
	{
		name:    "image",
		has:     func(s *providerv1.SandboxSpec) bool { return s.GetImage().GetSource() != nil },
		foreign: func(s *providerv1.SandboxSpec) bool { return s.GetImage().GetTemplate() != "" },
		clear:   func(s *providerv1.SandboxSpec) { s.Image = nil },
		why: func(s *providerv1.SandboxSpec) string {
			if t := s.GetImage().GetTemplate(); t != "" {
				return "the image is the template " + t + " of its provider; another has another default"
			}
			return "the image is the provider's default, not the one of the source"
		},
	},
	{
		name: "region", has: func(s *providerv1.SandboxSpec) bool { return s.GetRegion() != "" }, foreign: always,
		clear: func(s *providerv1.SandboxSpec) { s.Region = "" },
		why: func(s *providerv1.SandboxSpec) string {
			return "the region " + s.GetRegion() + " is in the words of its provider"
		},
	},
	{
		name: "mounts", has: func(s *providerv1.SandboxSpec) bool { return len(s.GetMounts()) > 0 }, foreign: always,
		clear: func(s *providerv1.SandboxSpec) { s.Mounts = nil },
		why: func(s *providerv1.SandboxSpec) string {
			return "folders and volumes stay where they are, which were mounted at " + strings.Join(targets(s), ", ") + "; name the paths to carry what is in them"
		},
	},
	{
		name: "hostname", has: func(s *providerv1.SandboxSpec) bool { return s.GetHostname() != "" }, foreign: never,
		clear: func(s *providerv1.SandboxSpec) { s.Hostname = "" },
		why:   func(*providerv1.SandboxSpec) string { return "the host name is the provider's choice" },
	},
	{
		name: "ports", has: func(s *providerv1.SandboxSpec) bool { return len(s.GetPorts()) > 0 }, foreign: never,
		clear: func(s *providerv1.SandboxSpec) { s.Ports = nil },
		why:   func(*providerv1.SandboxSpec) string { return "no port is declared" },
	},
	{
		name: "size", has: func(s *providerv1.SandboxSpec) bool { return s.GetResources() != nil }, foreign: never,
		clear: func(s *providerv1.SandboxSpec) { s.Resources = nil },
		why: func(*providerv1.SandboxSpec) string {
			return "CPU, memory, disk and processes are the provider's default"
		},
	},
}

func targets(s *providerv1.SandboxSpec) []string {
	var out []string
	for _, m := range s.GetMounts() {
		out = append(out, m.GetTarget())
	}
	return out
}

// Strip leaves parts out of a request and says which. What means nothing elsewhere is
// refused unless it is to be left out.
func Strip(req *brokerv1.CreateSandboxRequest, without []string) ([]portable.Left, error) {
	return strip(req, func(p part) (bool, error) {
		if slices.Contains(without, p.name) {
			return true, nil
		}
		if p.foreign(req.GetSpec()) {
			return false, fault.New(providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE,
				"%s cannot be had elsewhere: %s; --without %s leaves it out", p.name, p.why(req.GetSpec()), p.name).
				With(fault.MetaField, "spec."+p.name)
		}
		return false, nil
	})
}

// strip clears the parts that drop says.
func strip(req *brokerv1.CreateSandboxRequest, drop func(part) (bool, error)) (left []portable.Left, err error) {
	spec := req.GetSpec()
	for _, p := range parts {
		if !p.has(spec) {
			continue
		}
		dropped, err := drop(p)
		if err != nil {
			return nil, err
		}
		if dropped {
			left = append(left, portable.NewLeft(p.name, p.why(spec)))
			p.clear(spec)
		}
	}
	return left, nil
}

// mounted are where other file systems are in a sandbox.
func mounted(sb *brokerv1.Sandbox) []string { return targets(sb.GetSpec()) }
