package cli

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/value"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/image"
)

// specFlags say what a new sandbox should be.
type specFlags struct {
	Name     string              `help:"Name of the sandbox; with run it also keeps the sandbox." placeholder:"NAME"`
	Provider string              `help:"Provider to use; default: the broker chooses." placeholder:"NAME"`
	Image    string              `help:"OCI image, or template:NAME, or host for this machine's own programs." placeholder:"REF"`
	CPU      value.CPU           `name:"cpu" help:"CPUs it may use, such as 0.5." placeholder:"N"`
	Memory   value.Size          `help:"Memory it may use, such as 512MiB." placeholder:"SIZE"`
	Disk     value.Size          `help:"Bytes it may write on top of its image, such as 2GiB." placeholder:"SIZE"`
	GPU      value.GPU           `name:"gpu" help:"GPUs it gets: a number, a kind in the provider's words, or both, such as H100:2." placeholder:"[KIND:]N"`
	Pids     int64               `help:"Processes and threads it may have." placeholder:"N"`
	Env      []string            `short:"e" sep:"none" help:"Environment variable; NAME alone passes yours on." placeholder:"NAME[=VALUE]"`
	EnvFile  []string            `sep:"none" help:"File with NAME=VALUE lines; --env wins." placeholder:"FILE"`
	Workdir  string              `short:"w" help:"Working directory inside." placeholder:"DIR"`
	User     string              `short:"u" help:"User inside: name, uid or uid:gid." placeholder:"USER"`
	Hostname string              `help:"Host name inside." placeholder:"NAME"`
	Region   string              `help:"Where to run, in the provider's words." placeholder:"REGION"`
	Mount    []value.HostMount   `short:"m" sep:"none" help:"Show a folder or file of this machine: ro, rw, or overlay, which keeps writes in the sandbox. Default: overlay for a folder, ro for a file." placeholder:"SRC:DST[:MODE]"`
	Volume   []value.VolumeMount `sep:"none" help:"Mount a named volume, rw or ro." placeholder:"NAME:DST[:MODE]"`
	Label    []string            `short:"l" sep:"none" help:"Label." placeholder:"NAME=VALUE"`
	lifeFlags
	placeFlags
}

// placeFlags say which providers will do.
type placeFlags struct {
	ProviderLabel   []string       `sep:"none" help:"Only on a provider whose configuration has this label." placeholder:"NAME=VALUE"`
	MaxPrice        value.MaxPrice `help:"Only on a provider where it costs at most this while it runs, such as 0.05/h or 0.05EUR/h." placeholder:"PRICE"`
	AnyPrice        bool           `name:"allow-unknown-price" help:"With --max-price, also on a provider whose price is unknown."`
	PauseKeeps      string         `help:"Only on a provider whose pause keeps at least this: disk, memory or processes." enum:",disk,memory,processes" default:"" placeholder:"WHAT"`
	SnapshotKeeps   string         `help:"Only on a provider whose snapshots keep at least this: disk, memory or processes." enum:",disk,memory,processes" default:"" placeholder:"WHAT"`
	ForkKeeps       string         `help:"Only on a provider whose copies have at least this: disk, memory or processes." enum:",disk,memory,processes" default:"" placeholder:"WHAT"`
	EgressStrength  string         `help:"Only on a provider whose control of what leaves is at least this strong: enforced, native or cooperative." enum:",enforced,native,cooperative" default:"" placeholder:"HOW"`
	MaxStartLatency value.Duration `help:"Only on a provider whose recent creations took no longer, such as 500ms." placeholder:"TIME"`
	AllowUnmeasured bool           `help:"With --max-start-latency: also on one that nothing was measured of lately."`
}

func (f *placeFlags) place(req *brokerv1.CreateSandboxRequest) error {
	labels, err := value.Labels(f.ProviderLabel)
	if err != nil {
		return &usageError{message: "--provider-label: " + err.Error()}
	}
	if f.AllowUnmeasured && f.MaxStartLatency == 0 {
		return &usageError{message: "--allow-unmeasured goes with --max-start-latency, which is not there"}
	}
	req.ProviderLabels = labels
	if f.MaxPrice.NanosPerHour > 0 {
		req.MaxPrice = &brokerv1.MaxPrice{NanosPerHour: f.MaxPrice.NanosPerHour, Currency: f.MaxPrice.Currency, AllowUnknown: f.AnyPrice}
	} else if f.AnyPrice {
		return &usageError{message: "--allow-unknown-price goes with --max-price"}
	}
	for _, k := range []struct {
		asked string
		into  **providerv1.Keeps
	}{{f.PauseKeeps, &req.PauseKeeps}, {f.SnapshotKeeps, &req.SnapshotKeeps}, {f.ForkKeeps, &req.ForkKeeps}} {
		if k.asked != "" {
			*k.into = (&keepFlags{Require: k.asked}).keeps()
		}
	}
	if f.EgressStrength != "" {
		req.MinEgressStrength = providerv1.EgressStrength(providerv1.EgressStrength_value["EGRESS_STRENGTH_"+strings.ToUpper(f.EgressStrength)])
	}
	if f.MaxStartLatency != 0 {
		req.MaxStartLatency, req.AllowUnmeasured = durationpb.New(time.Duration(f.MaxStartLatency)), f.AllowUnmeasured
	}
	return nil
}

// lifeFlags say when a sandbox ends.
type lifeFlags struct {
	Lifetime   value.Duration `help:"Remove the sandbox after this time, such as 2h or 7d." placeholder:"TIME"`
	Idle       value.Duration `help:"Remove or pause the sandbox when nobody used it for this time." placeholder:"TIME"`
	IdleAction string         `help:"What idling leads to: ${enum}." enum:"delete,pause" default:"delete"`
}

func (f *lifeFlags) lifetime() *durationpb.Duration {
	if f.Lifetime == 0 {
		return nil
	}
	return durationpb.New(time.Duration(f.Lifetime))
}

func (f *lifeFlags) idle() *brokerv1.Idle {
	if f.Idle == 0 {
		return nil
	}
	action := brokerv1.IdleAction_IDLE_ACTION_DELETE
	if f.IdleAction == "pause" {
		action = brokerv1.IdleAction_IDLE_ACTION_PAUSE
	}
	return &brokerv1.Idle{Timeout: durationpb.New(time.Duration(f.Idle)), Action: action}
}

// request builds the request that the flags describe.
func (f *specFlags) request(a *app) (*brokerv1.CreateSandboxRequest, error) {
	labels, err := value.Labels(f.Label)
	if err != nil {
		return nil, &usageError{message: "--label: " + err.Error()}
	}
	env, err := a.environment(f.EnvFile, f.Env)
	if err != nil {
		return nil, err
	}
	mounts, err := f.mounts(a)
	if err != nil {
		return nil, err
	}
	if f.Pids < 0 {
		return nil, badFlag("pids", strconv.FormatInt(f.Pids, 10), "is not a number of processes; write one such as 256")
	}
	spec := &providerv1.SandboxSpec{
		Image: image.Parse(f.Image), Env: env, Workdir: f.Workdir, User: f.User,
		Hostname: f.Hostname, Region: f.Region, Mounts: mounts,
	}
	if f.CPU != 0 || f.Memory != 0 || f.Disk != 0 || f.Pids != 0 || f.GPU.Count != 0 {
		spec.Resources = &providerv1.Resources{
			CpuMillis: int64(f.CPU), MemoryBytes: int64(f.Memory), DiskBytes: int64(f.Disk), Pids: f.Pids, Gpu: f.gpu(),
		}
	}
	req := &brokerv1.CreateSandboxRequest{
		Name: f.Name, Provider: f.Provider, Spec: spec, Labels: labels,
		Lifetime: f.lifetime(), Idle: f.idle(), IdempotencyKey: randomID(),
	}
	return req, f.place(req)
}

func (f *specFlags) gpu() *providerv1.Gpu {
	if f.GPU.Count == 0 {
		return nil
	}
	return &providerv1.Gpu{Kind: f.GPU.Kind, Count: f.GPU.Count}
}

func (a *app) environment(files, pairs []string) (map[string]string, error) {
	env := map[string]string{}
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return nil, &usageError{message: fmt.Sprintf("--env-file: %v", err)}
		}
		err = value.EnvFile(env, file, a.lookupEnv)
		_ = file.Close()
		if err != nil {
			return nil, &usageError{message: fmt.Sprintf("--env-file %s: %v", name, err)}
		}
	}
	if err := value.Env(env, pairs, a.lookupEnv); err != nil {
		return nil, &usageError{message: "--env: " + err.Error()}
	}
	for name, v := range env {
		if !utf8.ValidString(name) || !utf8.ValidString(v) {
			return nil, &usageError{message: fmt.Sprintf("the value of the variable %q is not UTF-8; pass such bytes in a file or on standard input", name)}
		}
	}
	return maps.Clone(env), nil
}

// mounts makes paths absolute. A broker behind a socket shares our files, so what
// is missing here is missing there; a remote one must look for itself.
func (f *specFlags) mounts(a *app) ([]*providerv1.Mount, error) {
	var out []*providerv1.Mount
	for _, m := range f.Mount {
		source, err := filepath.Abs(m.Source)
		if err != nil {
			return nil, fmt.Errorf("find the folder %q of --mount: %w", m.Source, err)
		}
		mode := m.Mode
		info, err := os.Stat(source)
		switch {
		case err == nil && mode == providerv1.MountMode_MOUNT_MODE_UNSPECIFIED && !info.IsDir():
			mode = providerv1.MountMode_MOUNT_MODE_RO
		case err != nil && (a.Server == "" || strings.HasPrefix(a.Server, "unix://")):
			return nil, badFlag("mount", m.Source, "cannot be mounted: "+err.Error())
		case mode == providerv1.MountMode_MOUNT_MODE_UNSPECIFIED:
			mode = providerv1.MountMode_MOUNT_MODE_OVERLAY
		}
		out = append(out, &providerv1.Mount{Target: m.Target, Source: &providerv1.Mount_HostPath{HostPath: source}, Mode: mode})
	}
	for _, v := range f.Volume {
		out = append(out, &providerv1.Mount{Target: v.Target, Source: &providerv1.Mount_Volume{Volume: v.Name}, Mode: v.Mode})
	}
	return out, nil
}
