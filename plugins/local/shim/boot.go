package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandbar-dev/sandbar/plugins/local/record"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Names in a sandbox's folder.
const (
	lockName       = "lock"
	socketName     = "shim.sock"
	logName        = "shim.log"
	bootstrapName  = "bootstrap.json"
	diskName       = "disk"
	checkpointName = "checkpoint"
	execsName      = "execs.json"
)

// Boot is what a shim is told on its standard input.
type Boot struct {
	// Checkpoint is a folder to restore from; empty: make a new guest.
	Checkpoint string `json:"checkpoint,omitempty"`
	// DropCheckpoint has the folder removed once the guest is loaded.
	DropCheckpoint bool `json:"drop_checkpoint,omitempty"`
	// Root describes the guest's root file system.
	Root Root `json:"root"`
	// VolumeData maps the names of mounted volumes to their folders.
	VolumeData map[string]string `json:"volume_data,omitempty"`
	// Agent is the program that is process 1 of a new guest, a file in the file system of the sandbox's folder; empty: the provider's own.
	Agent string `json:"agent,omitempty"`
	// RetainBytes is how much output of each stream is kept.
	RetainBytes int `json:"retain_bytes"`
	// Member is set for a member of the warm pool, which has no record.
	Member *MemberSpec `json:"member,omitempty"`
}

// MemberSpec is what a member of the warm pool is made from: what cannot change
// any more when it becomes somebody's sandbox.
type MemberSpec struct {
	CPUMillis   int64 `json:"cpu_millis,omitempty"`
	MemoryBytes int64 `json:"memory_bytes"`
	DiskBytes   int64 `json:"disk_bytes"`
	Pids        int64 `json:"pids"`
}

// record reads the record in a sandbox's folder, or stands in for the one that a
// member of the pool does not have yet.
func (b *Boot) record(dir string) (*record.Sandbox, error) {
	if b.Member == nil {
		rec, err := record.ReadSandbox(dir)
		if err != nil {
			return nil, fmt.Errorf("read record of sandbox: %w", err)
		}
		return rec, nil
	}
	return &record.Sandbox{Sandbox: &providerv1.Sandbox{}, Spec: &providerv1.SandboxSpec{
		Resources: &providerv1.Resources{
			CpuMillis: b.Member.CPUMillis, MemoryBytes: b.Member.MemoryBytes, DiskBytes: b.Member.DiskBytes, Pids: b.Member.Pids,
		},
	}}, nil
}

// Root is where the root file system comes from; exactly one is set.
type Root struct {
	// Host shows the machine's own programs.
	Host bool `json:"host,omitempty"`
	// Image is a file with a read-only file system.
	Image string `json:"image,omitempty"`
	// Env and User are the image's defaults.
	Env     []string `json:"env,omitempty"`
	User    string   `json:"user,omitempty"`
	Workdir string   `json:"workdir,omitempty"`
}

// Bootstrap is what a running shim leaves for a plugin that did not start it.
type Bootstrap struct {
	// Protocol is the version of this file and of the shim's socket.
	Protocol int `json:"protocol"`
	// StartedAt is when the shim was ready.
	StartedAt time.Time `json:"started_at"`
	// Socket is the socket's name in the sandbox's folder.
	Socket string `json:"socket"`
}

// bootstrapProtocol changes when an older plugin could no longer talk to a shim.
const bootstrapProtocol = 1

// ready is the one line a shim writes when it serves, or why it does not.
type ready struct {
	OK    bool        `json:"ok"`
	Fault *readyFault `json:"fault,omitempty"`
}

// readyFault carries a fault.Error over the ready pipe.
type readyFault struct {
	Reason   int32             `json:"reason"`
	Message  string            `json:"message"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

func faultOf(err error) *readyFault {
	e := fault.From(err)
	return &readyFault{Reason: int32(e.Reason), Message: e.Message, Metadata: e.Metadata}
}

func (f *readyFault) err() error {
	e := fault.New(providerv1.ErrorReason(f.Reason), "%s", f.Message)
	for k, v := range f.Metadata {
		e = e.With(k, v)
	}
	return e.WithEffect(providerv1.Effect_EFFECT_NONE)
}

// Lock takes the lock of a sandbox's folder without waiting. held is true if a
// shim lives there. The file is the caller's to hand to a new shim and close: the
// lock belongs to the open file and lives as long as any process has it.
func Lock(dir string) (lock *os.File, held bool, err error) {
	f, err := openLock(dir, os.O_CREATE)
	if err != nil {
		return nil, false, err
	}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		_ = f.Close()
		return nil, true, nil
	}
	if err != nil {
		_ = f.Close()
		return nil, false, fmt.Errorf("lock sandbox: %w", err)
	}
	return f, false, nil
}

// Alive reports whether a shim lives in a sandbox's folder. A folder that does
// not exist has none, nor has one without a lock. Asking takes no lock and makes
// no file, so it disturbs nobody: not even whoever is just removing the folder.
func Alive(dir string) (bool, error) {
	f, err := openLock(dir, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	query := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &query); err != nil {
		return false, fmt.Errorf("ask for lock of sandbox: %w", err)
	}
	return query.Type != unix.F_UNLCK, nil
}

func openLock(dir string, flags int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|unix.O_CLOEXEC|flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of sandbox: %w", err)
	}
	return f, nil
}

// CheckpointDir is where a paused sandbox's guest is kept.
func CheckpointDir(dir string) string { return filepath.Join(dir, checkpointName) }

func writeBootstrap(dir string) error {
	data, err := json.Marshal(Bootstrap{Protocol: bootstrapProtocol, StartedAt: time.Now().UTC(), Socket: socketName})
	if err != nil {
		return err
	}
	return record.WriteFile(filepath.Join(dir, bootstrapName), data)
}

func readBootstrap(dir string) (*Bootstrap, error) {
	data, err := os.ReadFile(filepath.Join(dir, bootstrapName))
	if err != nil {
		return nil, err
	}
	b := &Bootstrap{}
	if err := json.Unmarshal(data, b); err != nil {
		return nil, fmt.Errorf("read bootstrap.json: %w", err)
	}
	if b.Protocol != bootstrapProtocol {
		return nil, fmt.Errorf("the sandbox's shim speaks protocol %d, this plugin %d: use the plugin version that made it",
			b.Protocol, bootstrapProtocol)
	}
	return b, nil
}

func readBoot(in *json.Decoder) (*Boot, error) {
	b := &Boot{}
	if err := in.Decode(b); err != nil {
		return nil, fmt.Errorf("read boot message: %w", err)
	}
	return b, nil
}
