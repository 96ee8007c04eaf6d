package sdk

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Defaults of the contract, filled in before a driver sees a request.
const (
	defaultPage      = 100
	maxPage          = 1000
	defaultFilePage  = 1000
	maxFilePage      = 10000
	defaultFileMode  = 0o644
	defaultDirMode   = 0o755
	defaultURLExpiry = time.Hour
)

// fillDefaults makes explicit what an absent field means, so that no driver has
// to know: egress DENY, keeps disk, output BACKPRESSURE, page sizes, modes.
func fillDefaults(msg proto.Message) {
	switch m := msg.(type) {
	case *providerv1.CreateSandboxRequest:
		if m.GetSpec() == nil {
			m.Spec = &providerv1.SandboxSpec{}
		}
		m.Spec.Egress = denyByDefault(m.GetSpec().GetEgress())
	case *providerv1.UpdateEgressRequest:
		m.Egress = denyByDefault(m.GetEgress())
	case *providerv1.StartExecRequest:
		if m.GetSpec() != nil && m.GetSpec().GetOutputPolicy() == providerv1.OutputPolicy_OUTPUT_POLICY_UNSPECIFIED {
			m.Spec.OutputPolicy = providerv1.OutputPolicy_OUTPUT_POLICY_BACKPRESSURE
		}
	case *providerv1.PauseSandboxRequest:
		m.Minimum = diskByDefault(m.GetMinimum())
	case *providerv1.CreateSnapshotRequest:
		m.Minimum = diskByDefault(m.GetMinimum())
	case *providerv1.RestoreSnapshotRequest:
		m.Minimum = diskByDefault(m.GetMinimum())
	case *providerv1.ForkSandboxRequest:
		m.Minimum = diskByDefault(m.GetMinimum())
	case *providerv1.GetPortURLRequest:
		if m.GetLifetime() == nil {
			m.Lifetime = durationpb.New(defaultURLExpiry)
		}
	case *providerv1.ListSandboxesRequest:
		setDefault(&m.PageSize, defaultPage)
	case *providerv1.ListSnapshotsRequest:
		setDefault(&m.PageSize, defaultPage)
	case *providerv1.ListVolumesRequest:
		setDefault(&m.PageSize, defaultPage)
	case *providerv1.ListFilesRequest:
		setDefault(&m.PageSize, defaultFilePage)
	case *providerv1.MakeDirectoryRequest:
		setDefault(&m.Permissions, defaultDirMode)
	case *providerv1.WriteFileRequest:
		if open := m.GetOpen(); open != nil {
			setDefault(&open.Mode, providerv1.WriteMode_WRITE_MODE_REPLACE)
			setDefault(&open.Permissions, defaultFileMode)
		}
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func denyByDefault(e *providerv1.Egress) *providerv1.Egress {
	if e == nil {
		e = &providerv1.Egress{}
	}
	setDefault(&e.Mode, providerv1.EgressMode_EGRESS_MODE_DENY)
	return e
}

func diskByDefault(k *providerv1.Keeps) *providerv1.Keeps {
	if k == nil {
		return &providerv1.Keeps{Disk: true}
	}
	return k
}
