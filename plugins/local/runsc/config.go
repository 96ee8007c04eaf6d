package runsc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"gvisor.dev/gvisor/runsc/config"
	"gvisor.dev/gvisor/runsc/flag"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// Config describes a sandbox. ID, Dir, Agent and one of Root and Image are required.
type Config struct {
	// ID names the sandbox in this shim; letters, digits, '_', '-' and '.'.
	ID string
	// Dir is the private directory given to Enter.
	Dir string
	// Root is the guest's lower root directory, never written to. It must contain what rootfs prepares.
	Root string
	// Image is a host file with an EROFS file system that is the lower root instead. Nothing of it is mounted on the host: the guest
	// kernel reads it, with the owners and modes it has, and nothing needs to be in it.
	Image string
	// Files are regular files that a new guest finds at these absolute paths, whatever its lower root has there. They are the guest's to
	// change.
	Files map[string]string
	// Agent is a host file that contains a binary which calls Dispatch, such as the running one, or is made of package guestagent. A
	// checkpoint can be restored only with the very same file content. It is needed by this path until Create or Restore returns.
	Agent string
	// Disk is a host directory for what the guest writes, in files without a name; empty keeps it in memory.
	Disk string
	// Hostname is the guest's; empty is "sandbox".
	Hostname string
	// Mounts are host directories visible in the guest.
	Mounts []Mount
	// Copies are host directories and files that the guest sees and may change, while on the host they stay as they are. They go with
	// an Image. What is below a Root is copy-on-write anyway: bind them into it.
	Copies Copies
	// Limits bound the sandbox; zero fields do not.
	Limits Limits
	// DebugLog is a directory for gVisor's own logs; empty is none.
	DebugLog string
}

// Copies shows the entries "0", "1", ... of a host directory at Targets[0], Targets[1], ... of the guest. The entries are usually bind
// mounts; nothing is ever written to them.
type Copies struct {
	Dir     string
	Targets []string
}

// Mount shows a host file or directory in the guest.
type Mount struct {
	Source, Target string
	ReadOnly       bool
}

// Limits bound what a sandbox may use. Each really holds, or Create refuses it.
type Limits struct {
	// CPUs is a number of whole processors.
	CPUs int
	// MemoryBytes bounds the guest's memory, including its memory file systems.
	MemoryBytes int64
	// DiskBytes bounds everything the guest writes outside of mounts.
	DiskBytes int64
	// Pids bounds the number of tasks in the guest, of which its agent takes some eight.
	Pids int64
}

func (c *Config) validate() error {
	for _, f := range []struct{ name, value string }{{"ID", c.ID}, {"Dir", c.Dir}, {"Root or Image", c.Root + c.Image}, {"Agent", c.Agent}} {
		if f.value == "" {
			return fmt.Errorf("check configuration: %s is required", f.name)
		}
	}
	if c.Root != "" && c.Image != "" {
		return errors.New("check configuration: want one of Root and Image, not both")
	}
	for name := range c.Files {
		if !filepath.IsAbs(name) {
			return fmt.Errorf("check file %q: path must be absolute", name)
		}
	}
	if len(c.Copies.Targets) > 0 && c.Image == "" {
		return errors.New("check copies: want Image; with Root, bind them into it")
	}
	for _, target := range c.targets() {
		clean := filepath.Clean(target)
		switch {
		case !filepath.IsAbs(target):
			return fmt.Errorf("check mount %q: paths must be absolute", target)
		case clean == "/" || within(clean, wire.Dir) || within(clean, "/proc"):
			return fmt.Errorf("check mount %q: target is reserved", target)
		}
	}
	for _, m := range c.Mounts {
		if !filepath.IsAbs(m.Source) {
			return fmt.Errorf("check mount %q: paths must be absolute", m.Target)
		}
	}
	if c.Limits.CPUs < 0 || c.Limits.MemoryBytes < 0 || c.Limits.DiskBytes < 0 || c.Limits.Pids < 0 {
		return errors.New("check limits: negative limit")
	}
	return nil
}

// targets are those of all mounts.
func (c *Config) targets() []string {
	var all []string
	for _, m := range c.Mounts {
		all = append(all, m.Target)
	}
	return append(all, c.Copies.Targets...)
}

// guestCapabilities are Docker's default set without CAP_NET_RAW. gVisor grants them inside the guest only.
var guestCapabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// agentCapabilities are what the agent needs to set up the guest; it drops the additional one before it starts a command.
var agentCapabilities = append(slices.Clone(guestCapabilities), "CAP_SYS_ADMIN")

// shmBytes is the size of /dev/shm, Docker's default; it counts as memory.
const shmBytes = 64 << 20

const defaultHostname = "sandbox"

func (c *Config) spec() *specs.Spec {
	host := c.Hostname
	if host == "" {
		host = defaultHostname
	}
	s := &specs.Spec{
		Version:  specs.Version,
		Hostname: host,
		Root:     &specs.Root{Path: c.Root},
		Process: &specs.Process{
			Cwd: "/", Args: []string{wire.AgentPath}, Env: agentEnv,
			Capabilities: &specs.LinuxCapabilities{Bounding: agentCapabilities, Effective: agentCapabilities, Permitted: agentCapabilities},
			Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1 << 20, Hard: 1 << 20}},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=1777", "size=" + strconv.Itoa(shmBytes)}},
			{Destination: wire.IODir, Type: "bind", Source: c.ioDir(), Options: []string{"rw"}},
			{Destination: wire.AgentPath, Type: "bind", Source: c.Agent, Options: []string{"ro"}},
		},
		// The sandbox joins the shim's own network namespace, whose interfaces become the guest's.
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.NetworkNamespace, Path: "/proc/self/ns/net"}}},
	}
	if c.Limits.Pids > 0 {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup"})
	}
	if c.tmpMarker() {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: wire.TmpMarker, Type: "tmpfs", Source: "tmpfs", Options: []string{"size=0"}})
	}
	switch {
	case c.layered():
		s.Root.Path = c.emptyDir()
		s.Mounts, s.Annotations = append(s.Mounts, c.stage()...), c.stageAnnotations()
	case c.Image != "":
		s.Root.Path = c.emptyDir()
		s.Annotations = c.imageAnnotations()
	}
	for _, m := range c.Mounts {
		mode := "rw"
		if m.ReadOnly {
			mode = "ro"
		}
		s.Mounts = append(s.Mounts, specs.Mount{Destination: m.Target, Type: "bind", Source: m.Source, Options: []string{mode, "rbind"}})
	}
	return s
}

// tmpMarker says whether /tmp needs a mount in it; see wire.TmpMarker. A layered root has nothing of the first one's /tmp.
func (c *Config) tmpMarker() bool { return !c.layered() && !c.mountsTmp() }

func (c *Config) mountsTmp() bool {
	return slices.ContainsFunc(c.targets(), func(target string) bool { return filepath.Clean(target) == "/tmp" })
}

// imageFD is the descriptor of the image in a shim, fixed because gVisor compares annotations, and with them the image's name, at a
// restore. It is far above what a shim has open when it starts.
const imageFD = 200

var imagePath = "/proc/self/fd/" + strconv.Itoa(imageFD)

// imageAnnotations tell gVisor to use the image as root, below an overlay. Where the overlay is kept says the option overlay2.
func (c *Config) imageAnnotations() map[string]string {
	const prefix = "dev.gvisor.spec.rootfs."
	medium, _, _ := strings.Cut(c.overlayMedium(), "=")
	if medium == "dir" {
		medium = "dir=/"
	}
	annotations := map[string]string{
		prefix + "source": imagePath, prefix + "type": "erofs", prefix + "overlay": medium,
	}
	if c.Limits.DiskBytes > 0 {
		annotations[prefix+"options"] = "size=" + strconv.FormatInt(c.Limits.DiskBytes, 10)
	}
	return annotations
}

func (c *Config) overlayMedium() string {
	if c.Disk == "" {
		return "memory"
	}
	return "dir=" + c.Disk
}

// setup is what the agent has to do in a new guest.
func (c *Config) setup(lower *Lower) (*wire.Setup, error) {
	setup := &wire.Setup{TmpMarker: c.tmpMarker(), Layers: c.layers(), Files: c.Files}
	if c.Limits.Pids > 0 {
		setup.MaxTasks = c.Limits.Pids + reservedTasks
	}
	_, err := lower.Lstat("/tmp")
	if errors.Is(err, fs.ErrNotExist) {
		setup.MakeTmp, err = !c.mountsTmp(), nil
	}
	return setup, err
}

// agentEnv keeps the agent small and quiet. It mostly waits in system calls, and with a second processor to its scheduler the runtime would
// look every 20 µs, through the guest kernel, whether that is still so, just while a command starts. It has no handler for
// the signal of asynchronous preemption; see package agent.
var agentEnv = []string{"GOMAXPROCS=1", "GOGC=50", "GODEBUG=asyncpreemptoff=1"}

func (c *Config) ioDir() string     { return filepath.Join(c.Dir, c.ID, "io") }
func (c *Config) emptyDir() string  { return filepath.Join(c.Dir, c.ID, "empty") }
func (c *Config) bundleDir() string { return filepath.Join(c.Dir, c.ID) }

// runtime returns gVisor's configuration. Flags, because gVisor passes its configuration to its child processes that way.
func (c *Config) runtime() (*config.Config, error) {
	fs := flag.NewFlagSet("runsc", flag.ContinueOnError)
	config.RegisterFlags(fs)
	overlay := "root:" + c.overlayMedium()
	switch {
	case c.layered():
		overlay = "root:memory" // holds mount points until the agent has left it
	case c.Limits.DiskBytes > 0:
		overlay += ",size=" + strconv.FormatInt(c.Limits.DiskBytes, 10)
	}
	values := map[string]string{
		"root":           filepath.Join(c.Dir, "state"),
		"platform":       "systrap", // needs neither KVM nor ptrace rights
		"network":        "sandbox",
		"overlay2":       overlay,
		"directfs":       "false", // the guest kernel gets no file system access of its own; opens are 0.3 ms slower
		"host-fifo":      "open",  // for the streams in wire.IODir
		"host-settings":  "ignore",
		"ignore-cgroups": "true",
		// Programs of an image that change their user, such as sudo and su, work as on Linux: the ids and capabilities they gain are the
		// guest kernel's own, and mean nothing to the host. The host's programs do not: in a user namespace their owner is unknown.
		"allow-suid": strconv.FormatBool(c.Image != ""),
		// With a real root the guest kernel runs as nobody; in a user namespace with one user there is only that one.
		"rootless": strconv.FormatBool(inUserNamespace()),
	}
	if c.DebugLog != "" {
		values["debug"], values["debug-log"] = "true", c.DebugLog+"/"
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if err := fs.Set(name, values[name]); err != nil {
			return nil, fmt.Errorf("set gVisor option %q: %w", name, err)
		}
	}
	conf, err := config.NewFromFlags(fs)
	if err != nil {
		return nil, fmt.Errorf("make gVisor configuration: %w", err)
	}
	return conf, nil
}

// inUserNamespace says whether root here is somebody else outside.
func inUserNamespace() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err != nil || !strings.HasSuffix(strings.TrimSpace(string(b)), "4294967295")
}

func (c *Config) writeBundle(spec *specs.Spec) error {
	for _, dir := range []string{c.ioDir(), c.emptyDir()} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return fmt.Errorf("create bundle: %w", err)
		}
	}
	b, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("encode bundle: %w", err)
	}
	if err := os.WriteFile(filepath.Join(c.bundleDir(), "config.json"), b, 0o600); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	return nil
}
