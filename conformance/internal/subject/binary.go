package subject

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sandbar-dev/sandbar/broker/pluginhost"
	"github.com/sandbar-dev/sandbar/broker/pluginhost/supervisor"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// BinaryOptions describe a plugin binary.
type BinaryOptions struct {
	// Path of the binary. Its file name says the provider's name, unless Name does.
	Path, Name string
	// Args are given to it before anything else; for tests of the suite itself.
	Args []string
	// Settings and Secrets are the operator's, for Configure.
	Settings map[string]any
	Secrets  map[string][]byte
	// Dir holds sockets and state; empty: a new temporary folder. Its path must be
	// short enough for the sockets in it.
	Dir string
}

// binary runs a plugin as the broker does.
type binary struct {
	opts BinaryOptions
	dir  string
	mine bool // dir was made here

	mu   sync.Mutex
	next int
}

// NewBinary returns a target that starts a plugin binary with the broker's own
// plugin host.
func NewBinary(opts BinaryOptions) (Target, error) {
	path, err := filepath.Abs(opts.Path)
	if err != nil {
		return nil, fmt.Errorf("plugin %q: %w", opts.Path, err)
	}
	opts.Path = path
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("plugin %q: want the path of a provider's binary: %w", opts.Path, err)
	}
	if opts.Name == "" {
		name, ok := strings.CutPrefix(filepath.Base(path), handshake.BinaryPrefix)
		if !ok || name == "" {
			return nil, fmt.Errorf("plugin %q: want a file named %s<name>", opts.Path, handshake.BinaryPrefix)
		}
		opts.Name = name
	}
	b := &binary{opts: opts, dir: opts.Dir}
	if b.dir == "" {
		if b.dir, err = os.MkdirTemp("", "sbc"); err != nil {
			return nil, fmt.Errorf("make a folder for the plugin: %w", err)
		}
		b.mine = true
	}
	return b, nil
}

// Kind implements Target.
func (b *binary) Kind() Kind { return Binary }

// About implements Target.
func (b *binary) About(ctx context.Context) (About, error) {
	about := About{Name: b.opts.Name, Launcher: "the broker's plugin host"}
	if len(b.opts.Args) > 0 {
		// With arguments it is not the binary alone that is tested.
		return about, nil
	}
	seen, err := pluginhost.Inspect(ctx, pluginhost.Binary{Name: b.opts.Name, Path: b.opts.Path, Trust: pluginhost.TrustLocation})
	if err != nil {
		return About{}, err
	}
	d := seen.Manifest.Describe
	text, err := protojson.Marshal(d)
	if err != nil {
		return About{}, fmt.Errorf("encode the manifest: %w", err)
	}
	digest := sha256.Sum256(text)
	about.Vendor, about.Version = d.GetVendor(), d.GetVersion()
	about.SHA256, about.Manifest = seen.Pin.SHA256, hex.EncodeToString(digest[:])
	return about, nil
}

// Open implements Target.
func (b *binary) Open(ctx context.Context, opts OpenOptions) (*Instance, error) {
	settings := maps.Clone(b.opts.Settings)
	if settings == nil {
		settings = map[string]any{}
	}
	maps.Copy(settings, opts.Settings)
	values, err := structpb.NewStruct(settings)
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	run, state := b.folders(opts.StateDir)
	configuration := &providerv1.ConfigureRequest{
		Settings: values, Secrets: b.opts.Secrets, StateDir: filepath.Join(state, b.opts.Name), Owner: opts.Owner,
	}
	if opts.Unconfigured {
		return b.openBare(ctx, run, state, configuration)
	}
	words := &tail{}
	host, err := pluginhost.New(pluginhost.Options{
		Plugins: []pluginhost.Config{{
			Name: b.opts.Name, Binary: b.opts.Path, Trust: pluginhost.TrustLocation, Args: b.opts.Args,
			Settings: values, Secrets: b.opts.Secrets,
		}},
		RuntimeDir: run, StateDir: state, Owner: opts.Owner,
		Logger: slog.New(slog.NewTextHandler(words, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Limits: quickRestarts(),
	})
	if err != nil {
		return nil, fmt.Errorf("run the plugin: %w", err)
	}
	if err := host.Start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("run the plugin: %w", err), host.Close(ctx))
	}
	plugin, err := host.Plugin(b.opts.Name)
	if err != nil {
		return nil, errors.Join(err, host.Close(ctx))
	}
	described, err := plugin.Descriptor(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the plugin: %w%s", err, words.indented()), host.Close(ctx))
	}
	proc := &hosted{plugin: plugin, words: words}
	inst := NewInstance(plugin, described, proc, state, host.Close)
	inst.Configuration, inst.Manifest, inst.Argv = configuration, b.manifest, b.argv()
	return inst, nil
}

// argv is the command line that serves.
func (b *binary) argv() []string { return slices.Concat([]string{b.opts.Path}, b.opts.Args) }

// folders are for one instance: sockets, and state that may be older.
func (b *binary) folders(state string) (string, string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next++
	run := filepath.Join(b.dir, fmt.Sprintf("r%d", b.next))
	if state == "" {
		state = filepath.Join(b.dir, fmt.Sprintf("s%d", b.next))
	}
	return run, state
}

// quickRestarts does not make a case wait for a plugin that it killed.
func quickRestarts() supervisor.Limits {
	limits := supervisor.Defaults()
	limits.BackoffBase = 10 * time.Millisecond
	limits.MaxExits = 1000
	return limits
}

// Close implements Target.
func (b *binary) Close(context.Context) error {
	if !b.mine {
		return nil
	}
	if err := os.RemoveAll(b.dir); err != nil {
		return fmt.Errorf("remove the plugin's folder: %w", err)
	}
	return nil
}

// hosted is the process of a plugin under a plugin host.
type hosted struct {
	plugin *pluginhost.Plugin
	words  *tail
}

// PID implements Process.
func (h *hosted) PID() int { return h.plugin.Status().PID }

// Stderr implements Process.
func (h *hosted) Stderr() string { return h.words.text() }

// Kill implements Process.
func (h *hosted) Kill(ctx context.Context) error {
	before := h.plugin.Status()
	if before.PID == 0 {
		return errors.New("the plugin has no process to kill")
	}
	if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill the plugin, process %d: %w", before.PID, err)
	}
	const often = 5 * time.Millisecond
	tick := time.NewTicker(often)
	defer tick.Stop()
	for {
		now := h.plugin.Status()
		if now.Generation > before.Generation && (now.State == supervisor.Ready || now.State == supervisor.Degraded) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the plugin did not come back after it was killed: it is %v: %s", now.State, now.Reason)
		}
	}
}

// tail keeps the end of a text. It is safe for concurrent use.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const maxTail = 16 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - maxTail; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

// indented is the end of the text for an error message.
func (t *tail) indented() string {
	text := strings.TrimSpace(t.text())
	if text == "" {
		return ""
	}
	return "\n  " + strings.ReplaceAll(text, "\n", "\n  ")
}
