package subject

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// openBare starts the plugin with go-plugin alone. The plugin host always
// configures what it starts, and tells nobody what came before.
func (b *binary) openBare(ctx context.Context, run, state string, configuration *providerv1.ConfigureRequest) (*Instance, error) {
	for _, dir := range []string{run, configuration.GetStateDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make a folder for the plugin: %w", err)
		}
	}
	words := &tail{}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), b.opts.Path, b.opts.Args...) // ended by Close, not by the context of Open
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion: handshake.ProtocolMajor, MagicCookieKey: handshake.CookieKey, MagicCookieValue: handshake.CookieValue,
		},
		VersionedPlugins: map[int]plugin.PluginSet{handshake.ProtocolMajor: {handshake.PluginName: bareConnection{}}},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Cmd:              cmd,
		Logger:           hclog.NewNullLogger(),
		Stderr:           words,
		SkipHostEnv:      true,
		StartTimeout:     bareStart,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: run},
		GRPCDialOptions: []grpc.DialOption{grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(handshake.MaxMessageBytes), grpc.MaxCallSendMsgSize(handshake.MaxMessageBytes),
		)},
	})
	closeClient := func(context.Context) error {
		client.Kill() // waits for the process
		return nil
	}
	conn, err := dispense(client)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the plugin: %w%s", err, words.indented()), closeClient(ctx))
	}
	described, err := providerv1.NewProviderServiceClient(conn).Describe(ctx, &providerv1.DescribeRequest{})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("describe: %s%s", Describe(err), words.indented()), closeClient(ctx))
	}
	inst := NewInstance(conn, described, &bareProcess{cmd: cmd, words: words}, state, closeClient)
	inst.Configuration, inst.Manifest, inst.Argv = configuration, b.manifest, b.argv()
	return inst, nil
}

// bareStart is the plugin host's own start budget.
const bareStart = 10 * time.Second

func dispense(client *plugin.Client) (*grpc.ClientConn, error) {
	protocol, err := client.Client()
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller says what it did
	}
	raw, err := protocol.Dispense(handshake.PluginName)
	if err != nil {
		return nil, err //nolint:wrapcheck // likewise
	}
	conn, ok := raw.(*grpc.ClientConn)
	if !ok {
		return nil, fmt.Errorf("go-plugin dispensed %T", raw)
	}
	return conn, nil
}

// bareConnection makes go-plugin hand out the connection itself.
type bareConnection struct{ plugin.NetRPCUnsupportedPlugin }

// GRPCServer is never called in a client.
func (bareConnection) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("the suite serves nothing")
}

// GRPCClient implements plugin.GRPCPlugin.
func (bareConnection) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}

// bareProcess is a process that nobody supervises.
type bareProcess struct {
	cmd   *exec.Cmd
	words *tail
}

// PID implements Process.
func (p *bareProcess) PID() int { return p.cmd.Process.Pid }

// Stderr implements Process.
func (p *bareProcess) Stderr() string { return p.words.text() }

// Kill implements Process.
func (p *bareProcess) Kill(context.Context) error {
	return errors.New("a plugin that was opened without configuration has no supervisor to bring it back")
}

// manifest runs the binary with --describe, in the clean surroundings that a
// packager has.
func (b *binary) manifest(ctx context.Context) (handshake.Manifest, error) {
	ctx, cancel := context.WithTimeout(ctx, describeBudget)
	defer cancel()
	args := slices.Concat(b.opts.Args, []string{handshake.DescribeFlag})
	cmd := exec.CommandContext(ctx, b.opts.Path, args...)
	cmd.Env = []string{} // nil would be this process's own
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return handshake.Manifest{}, fmt.Errorf("%s ended with: %w: %s", handshake.DescribeFlag, err, errs.String())
	}
	m, err := handshake.DecodeManifest(out.Bytes())
	if err != nil {
		return handshake.Manifest{}, fmt.Errorf("%s: %w", handshake.DescribeFlag, err)
	}
	return m, nil
}

// describeBudget is ample for printing a page of text.
const describeBudget = 3 * time.Second
