package runsc

import (
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"

	"gvisor.dev/gvisor/pkg/state/statefile"
	"gvisor.dev/gvisor/runsc/sandbox"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

const (
	manifestName = "sandbar.json"
	imageName    = "image"
	// manifestVersion changes when older checkpoints can no longer be read.
	manifestVersion = 3
)

// ErrIncompatible is wrapped by Restore when a checkpoint was made by another build of the runtime or the agent, or for another
// configuration. Such a checkpoint cannot be restored, but it is not damaged.
var ErrIncompatible = errors.New("checkpoint is incompatible")

// manifest is what a checkpoint needs beside gVisor's own files.
type manifest struct {
	Version   int            `json:"version"`
	Runtime   string         `json:"runtime"`  // gVisor's module version: its state format is private to it
	Agent     string         `json:"agent"`    // identity of the agent's file, whose code is mapped in the guest
	Protocol  int            `json:"protocol"` // what that agent speaks
	NextExec  int            `json:"next_exec"`
	NextFile  int64          `json:"next_stream"`
	Execs     []manifestExec `json:"execs,omitempty"`
	Transfers []string       `json:"transfers,omitempty"` // streams that the guest may still have open
	Prepared  []string       `json:"prepared,omitempty"`  // those of them that the agent closes when it prepares others
	Limits    Limits         `json:"limits"`
	Mounts    []Mount        `json:"mounts,omitempty"`
	Copies    []string       `json:"copies,omitempty"` // their targets
}

type manifestExec struct {
	ID    string `json:"id"`
	PID   int    `json:"pid"`
	TTY   bool   `json:"tty,omitempty"`
	Stdin bool   `json:"stdin,omitempty"`
	// Unread is what the guest had not read of its standard input, and Closed that nothing follows.
	Unread []byte `json:"unread,omitempty"`
	Closed bool   `json:"closed,omitempty"`
	Stdout int64  `json:"stdout"` // bytes the guest had written
	Stderr int64  `json:"stderr"`
	// StdoutName and StderrName are those of the streams.
	StdoutName string `json:"stdout_name"`
	StderrName string `json:"stderr_name,omitempty"`
	Ended      bool   `json:"ended,omitempty"`
	Exit       Exit   `json:"exit"`
}

// Checkpoint saves the guest with memory, processes, open files and everything it wrote to dir, a new directory.
//
// With keepRunning the guest goes on afterwards; otherwise it ends and so does the sandbox, as Done tells, and what it had written
// can still be read from its streams. The offsets in the checkpoint are exact in both cases: a restored stream starts at the byte
// after the last one that the saved guest had written.
//
// The guest is stopped first, and stopped is called while it is, with what it wrote waiting in its streams: the moment to bring
// the readers of the streams to a rest and to add files to dir. It may be nil; its error gives the checkpoint up.
//
// If it fails the guest goes on and dir is removed.
func (s *Sandbox) Checkpoint(ctx context.Context, dir string, keepRunning bool, stopped func() error) (err error) {
	image := filepath.Join(dir, imageName)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("create checkpoint: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(dir)
		}
	}()
	if err := os.Mkdir(image, 0o700); err != nil {
		return fmt.Errorf("create checkpoint: %w", err)
	}
	// No request is half-way from here on.
	s.ctl.quiesce.Lock()
	defer s.ctl.quiesce.Unlock()
	s.runMu.Lock()
	defer s.runMu.Unlock()
	if s.cont == nil {
		return fmt.Errorf("checkpoint sandbox %q: %w", s.cfg.ID, ErrEnded)
	}
	m := &manifest{
		Version: manifestVersion, Runtime: runtimeVersion(), Agent: s.agent, Protocol: wire.Protocol, Limits: s.cfg.Limits, Mounts: s.cfg.Mounts,
		Copies: s.cfg.Copies.Targets,
	}
	if err := s.stopAndSave(ctx, dir, image, m, keepRunning, stopped); err != nil {
		return fmt.Errorf("checkpoint sandbox %q: %w", s.cfg.ID, err)
	}
	return nil
}

// stopAndSave leaves the guest running if keepRunning or if it fails.
func (s *Sandbox) stopAndSave(ctx context.Context, dir, image string, m *manifest, keepRunning bool, stopped func() error) (err error) {
	if err := s.cont.Pause(); err != nil {
		return err
	}
	var held []*Writer
	defer func() {
		goesOn := keepRunning || err != nil
		for _, w := range held {
			err = errors.Join(err, w.letGo(goesOn))
		}
		if goesOn && s.cont != nil {
			err = errors.Join(err, s.cont.Resume())
		}
	}()
	if stopped != nil {
		if err := stopped(); err != nil {
			return err
		}
	}
	if held, err = s.describe(m); err != nil {
		return err
	}
	if err := s.save(image, keepRunning); err != nil {
		return err
	}
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode checkpoint: %w", err)
	}
	// The manifest is last: without it the directory is no checkpoint.
	if err := os.WriteFile(filepath.Join(dir, manifestName), b, 0o600); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	if keepRunning {
		return nil
	}
	return s.end(ctx)
}

// end takes the guest away whose checkpoint is complete: what goes wrong here does not harm it.
func (s *Sandbox) end(ctx context.Context) error {
	cont := s.cont
	s.cont = nil
	_ = cont.Destroy()
	select {
	case <-s.done:
	case <-ctx.Done():
	}
	return nil
}

func (s *Sandbox) save(image string, resume bool) error {
	return s.cont.Checkpoint(s.conf, image, sandbox.CheckpointOpts{
		Resume: resume,
		// Pages go to a file of their own, which a restore can read in the background.
		Compression: statefile.CompressionLevelNone,
	})
}

// describe fills in what the stopped guest's streams hold. Standard input that was not read is taken out of the pipe, which does
// not outlive this process; the caller lets go of the returned writers.
func (s *Sandbox) describe(m *manifest) (held []*Writer, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.NextExec, m.NextFile, m.Prepared = s.nextExec, s.nextStream, slices.Clone(s.staleOutputs)
	if s.outputs != nil {
		m.Prepared = append(m.Prepared, s.outputs.stdout.name, s.outputs.stderr.name)
	}
	for _, ex := range s.execs {
		me := manifestExec{ID: ex.ID, PID: ex.PID, TTY: ex.tty, Stdin: ex.Stdin != nil, StdoutName: ex.Stdout.name}
		if me.Stdout, err = ex.Stdout.total(); err != nil {
			return held, fmt.Errorf("measure stream %q: %w", ex.Stdout.name, err)
		}
		if ex.Stderr != nil {
			me.StderrName = ex.Stderr.name
			if me.Stderr, err = ex.Stderr.total(); err != nil {
				return held, fmt.Errorf("measure stream %q: %w", ex.Stderr.name, err)
			}
		}
		if ex.Stdin != nil {
			if me.Unread, me.Closed, err = ex.Stdin.hold(); err != nil {
				return held, err
			}
			held = append(held, ex.Stdin)
		}
		select {
		case <-ex.done:
			me.Ended, me.Exit = ex.lost == nil, ex.exit
		default:
		}
		m.Execs = append(m.Execs, me)
	}
	entries, err := os.ReadDir(s.cfg.ioDir())
	for _, e := range entries {
		m.Transfers = append(m.Transfers, e.Name())
	}
	return held, err
}

// Restore makes a sandbox of a checkpoint. It may be called many times for one, at the same time, from different shims: that is
// a fork. cfg must name the same agent content, limits and mount targets as at the checkpoint; Root and mount sources may be
// elsewhere but must have the same content. dir must stay until the sandbox is loaded, as Loaded tells.
func Restore(ctx context.Context, cfg Config, dir string) (*Sandbox, error) {
	m, err := readManifest(dir)
	if err != nil {
		return nil, err
	}
	agent, err := agentIdentity(cfg.Agent)
	if err != nil {
		return nil, fmt.Errorf("identify agent: %w", err)
	}
	switch {
	case m.Version != manifestVersion, m.Runtime != runtimeVersion():
		return nil, fmt.Errorf("restore checkpoint of runtime %q with %q: %w", m.Runtime, runtimeVersion(), ErrIncompatible)
	case m.Protocol != wire.Protocol:
		return nil, fmt.Errorf("restore checkpoint of protocol %d with %d: %w", m.Protocol, wire.Protocol, ErrIncompatible)
	case m.Agent != agent:
		return nil, fmt.Errorf("restore checkpoint with another agent: %w", ErrIncompatible)
	case m.Limits != cfg.Limits || len(m.Mounts) != len(cfg.Mounts), !slices.Equal(m.Copies, cfg.Copies.Targets):
		return nil, fmt.Errorf("restore checkpoint with other limits or mounts: %w", ErrIncompatible)
	}
	var keep []*os.File
	s, err := boot(ctx, cfg, func(s *Sandbox) (err error) {
		if keep, err = s.reopen(m); err != nil {
			return fmt.Errorf("reopen streams: %w", err)
		}
		// Pages are loaded while the guest already runs; one it needs is loaded first.
		if err := s.cont.Restore(s.conf, filepath.Join(dir, imageName), false, true); err != nil {
			return fmt.Errorf("restore sandbox %q: %w", cfg.ID, err)
		}
		return nil
	})
	// The guest has its ends open now, and transfers of the old shim end in it.
	closeFiles(keep)
	if err != nil {
		return nil, err
	}
	if err := s.SetHostname(ctx, cfg.Hostname); err != nil {
		s.abort()
		return nil, err
	}
	for _, me := range m.Execs {
		if ex, err := s.Exec(me.ID); err == nil && me.Closed {
			_ = ex.Stdin.Close()
		}
	}
	for _, name := range m.Transfers {
		if name[0] == 'f' {
			_ = os.Remove(filepath.Join(cfg.ioDir(), name))
		}
	}
	return s, nil
}

// Loaded waits until the whole checkpoint is in memory and its directory may be removed.
func (s *Sandbox) Loaded() error {
	if err := s.sand.WaitRestore(); err != nil {
		return fmt.Errorf("load checkpoint: %w", err)
	}
	return nil
}

// reopen makes every FIFO that the saved guest may have open.
func (s *Sandbox) reopen(m *manifest) (keep []*os.File, err error) {
	s.nextExec, s.nextStream, s.staleOutputs = m.NextExec, m.NextFile, m.Prepared
	for _, me := range m.Execs {
		ex := &Exec{ID: me.ID, PID: me.PID, sandbox: s, tty: me.TTY, done: make(chan struct{})}
		files, err := ex.reopenStreams(me)
		keep = append(keep, files...)
		if err != nil {
			return keep, err
		}
		if ex.Stdin != nil {
			if err := ex.Stdin.preload(me.Unread); err != nil {
				return keep, err
			}
		}
		if me.Ended {
			ex.finish(me.Exit, nil)
		}
		s.execs[me.ID] = ex
	}
	for _, name := range m.Transfers {
		path := filepath.Join(s.cfg.ioDir(), filepath.Base(name))
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		f, err := makeFIFO(path, os.O_RDWR)
		if err != nil {
			return keep, err
		}
		keep = append(keep, f)
	}
	return keep, nil
}

func readManifest(dir string) (*manifest, error) {
	b, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("decode checkpoint %q: %w", dir, err)
	}
	return &m, nil
}

// runtimeVersion identifies the gVisor in this binary.
var runtimeVersion = sync.OnceValue(func() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == "gvisor.dev/gvisor" {
				return dep.Version
			}
		}
	}
	return "unknown"
})

// agentIdentity is the build id of the agent, which the Go linker derives from all that went into the binary. Reading it takes
// microseconds, where a digest of 50 MB would cost each clone of a fork a quarter of its time.
func agentIdentity(path string) (string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	note := f.Section(".note.go.buildid")
	if note == nil {
		return "", fmt.Errorf("find build id of %q: not a Go binary", path)
	}
	b, err := note.Data()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}
