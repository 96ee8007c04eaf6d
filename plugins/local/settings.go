package local

import (
	"strconv"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// settings are what an operator may choose.
type settings struct {
	// retain is how many bytes of each output stream a shim keeps.
	retain int
	// pids, memory and disk are the limits of a sandbox that names none.
	pids, memory, disk int64
	// warmPool is the most guests that are kept ready for the next sandboxes.
	warmPool int
}

const (
	// defaultPids stops a fork bomb long before the machine notices.
	defaultPids = 1024
	// defaultDisk is what a sandbox may write when nobody says otherwise.
	defaultDisk   = 10 << 30
	defaultRetain = 1 << 20
	// mostWarm bounds the warm pool: each guest in it takes some 35 MiB.
	mostWarm = 64
)

func declaredSettings() []*providerv1.Setting {
	return []*providerv1.Setting{
		{
			Name: "default_disk_bytes", Type: providerv1.SettingType_SETTING_TYPE_INTEGER,
			Description: "Bytes a sandbox may write when its request does not say; default 10 GiB.",
		},
		{
			Name: "default_memory_bytes", Type: providerv1.SettingType_SETTING_TYPE_INTEGER,
			Description: "Memory of a sandbox when its request does not say; default half of the machine's.",
		},
		{
			Name: "default_pids", Type: providerv1.SettingType_SETTING_TYPE_INTEGER,
			Description: "Processes and threads of a sandbox when its request does not say; default 1024.",
		},
		{
			Name: "retained_output_bytes", Type: providerv1.SettingType_SETTING_TYPE_INTEGER,
			Description: "Bytes of each output stream kept for replay; default 1 MiB.",
		},
		{
			Name: "warm_pool", Type: providerv1.SettingType_SETTING_TYPE_INTEGER,
			Description: "Most guests that run ready for the next sandboxes, as many as were lately asked for; default 0, which is none.",
		},
	}
}

func parseSettings(s *structpb.Struct) (settings, error) {
	out := settings{retain: defaultRetain, pids: defaultPids, memory: halfOfMemory(), disk: defaultDisk}
	var retain, warmPool int64 = defaultRetain, 0
	for name, into := range map[string]*int64{
		"default_disk_bytes": &out.disk, "default_memory_bytes": &out.memory, "default_pids": &out.pids,
		"retained_output_bytes": &retain, "warm_pool": &warmPool,
	} {
		v, ok := s.GetFields()[name]
		if !ok {
			continue
		}
		n := int64(v.GetNumberValue())
		if n <= 0 && name != "warm_pool" || n < 0 || float64(n) != v.GetNumberValue() {
			return settings{}, fault.Field("settings."+name, strconv.FormatFloat(v.GetNumberValue(), 'g', -1, 64), "want a whole number above 0")
		}
		*into = n
	}
	const most = 1 << 30
	if retain > most {
		return settings{}, fault.Field("settings.retained_output_bytes", strconv.FormatInt(retain, 10), "want at most 1073741824")
	}
	if warmPool > mostWarm {
		return settings{}, fault.Field("settings.warm_pool", strconv.FormatInt(warmPool, 10), "want at most "+strconv.Itoa(mostWarm))
	}
	out.retain, out.warmPool = int(retain), int(warmPool)
	return out, nil
}

// withDefaults fills in the limits that a request leaves out.
func (s settings) withDefaults(r *providerv1.Resources) *providerv1.Resources {
	out := &providerv1.Resources{
		CpuMillis: r.GetCpuMillis(), MemoryBytes: r.GetMemoryBytes(), DiskBytes: r.GetDiskBytes(), Pids: r.GetPids(),
	}
	if out.MemoryBytes == 0 {
		out.MemoryBytes = s.memory
	}
	if out.DiskBytes == 0 {
		out.DiskBytes = s.disk
	}
	if out.Pids == 0 {
		out.Pids = s.pids
	}
	return out
}
