package mutant

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// reference is the driver that the processes serve.
func reference() *fake.Driver { return fake.New(fake.Options{Version: "0.0.0-mutant"}) }

// serve is the main function of the reference provider with a wrong driver.
func serve(d sdk.Driver) { sdk.Serve(d, sdk.Options{Exec: quick()}) }

// byHand is the main function of a plugin that does without the SDK's: it knows
// nothing of hosts that die, and ends at once when it is told to.
func byHand(major int, options ...grpc.ServerOption) {
	server, err := sdk.NewServer(reference(), sdk.Options{Exec: quick()})
	if err != nil {
		os.Exit(1)
	}
	onTerm(func() { os.Exit(0) })
	os.Stdout = printer() //nolint:forbidigo // the handshake's
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			MagicCookieKey: handshake.CookieKey, MagicCookieValue: handshake.CookieValue, ProtocolVersion: handshake.ProtocolMajor,
		},
		VersionedPlugins: map[int]plugin.PluginSet{major: {handshake.PluginName: &handmade{server: server}}},
		GRPCServer:       func(opts []grpc.ServerOption) *grpc.Server { return grpc.NewServer(append(opts, options...)...) },
	})
	server.Close()
}

// handmade is go-plugin's view of a plugin that was made by hand.
type handmade struct {
	plugin.NetRPCUnsupportedPlugin
	server *sdk.Server
}

// GRPCServer implements plugin.GRPCPlugin.
func (h *handmade) GRPCServer(_ *plugin.GRPCBroker, g *grpc.Server) error {
	h.server.Register(g)
	return nil
}

// GRPCClient is never called in a plugin.
func (*handmade) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("it calls no plugins")
}

// die ends the process without delay: with the race detector os.Exit takes a
// second.
func die() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }

// variable reads what the host said.
func variable(name string) string { return os.Getenv(name) } //nolint:forbidigo // the handshake is an environment protocol

func beginMutants() []Mutant {
	return []Mutant{
		{
			ID: "proc/handshake~highest", Kills: "proc/handshake", Bug: "it speaks the highest major that the host knows, as if it knew it as well",
			Main: func() {
				major := handshake.ProtocolMajor
				if strings.Contains(variable("PLUGIN_PROTOCOL_VERSIONS"), "2") {
					major = 2
				}
				byHand(major, sdk.ServerOptions()...)
			},
			Also: []string{"proc/sigterm-drains"}, // made by hand, it does not drain
		},
		{
			ID: "proc/stdout-clean~chatty", Kills: "proc/stdout-clean", Bug: "it prints that it was configured",
			Main: func() {
				out := printer()
				serve(&configuring{Driver: reference(), configured: func() { _, _ = io.WriteString(out, "configured\n") }})
			},
		},
		{
			ID: "proc/no-stdin~lifeline", Kills: "proc/no-stdin", Bug: "it takes the end of standard input for the end of a host that hands it no certificate",
			Main: func() {
				if variable("PLUGIN_CLIENT_CERT") == "" {
					go func() {
						_, _ = io.Copy(io.Discard, os.Stdin) // any end is the end
						die()
					}()
				}
				serve(reference())
			},
			Also: []string{"proc/handshake"},
		},
		{
			ID: "proc/empty-env~needs", Kills: "proc/empty-env", Bug: "it does not start without a variable that only Sandbar's own host sets",
			Main: func() {
				if variable(handshake.EnvParentPID) == "" {
					_, _ = fmt.Fprintln(os.Stderr, handshake.EnvParentPID+" is not set")
					os.Exit(1)
				}
				serve(reference())
			},
			Also: []string{"proc/handshake"},
		},
	}
}

// printer is the standard output that the SDK keeps for the handshake line.
func printer() *os.File {
	const first, last = 3, 64
	for fd := first; fd < last; fd++ {
		var stat syscall.Stat_t
		if syscall.Fstat(fd, &stat) == nil && stat.Mode&syscall.S_IFMT == syscall.S_IFIFO {
			return os.NewFile(uintptr(fd), "stdout")
		}
	}
	return os.Stderr
}

// configuring does something of its own when it is configured.
type configuring struct {
	*fake.Driver
	configured func()
}

// Configure implements sdk.Driver.
func (d *configuring) Configure(ctx context.Context, req *providerv1.ConfigureRequest) error {
	d.configured()
	return d.Driver.Configure(ctx, req)
}

func processEndMutants() []Mutant {
	return []Mutant{
		{
			ID: "proc/exits-on-host-death~stays", Kills: "proc/exits-on-host-death", Bug: "it does not look whether its host lives",
			Main: func() { byHand(handshake.ProtocolMajor, sdk.ServerOptions()...) },
			Also: []string{"proc/sigterm-drains"},
		},
		{
			ID: "proc/sigterm-drains~at-once", Kills: "proc/sigterm-drains", Bug: "SIGTERM ends it in the middle of a call",
			Main: func() { onTerm(die); serve(reference()) },
		},
		{
			ID: "proc/sigterm-drains~ignored", Kills: "proc/sigterm-drains", Bug: "SIGTERM is ignored",
			Main: func() {
				serve(&configuring{Driver: reference(), configured: func() { signal.Ignore(syscall.SIGTERM) }})
			},
			Also: []string{"proc/stdout-clean", "proc/no-descendants-after-stop"},
		},
		{
			ID: "proc/sigint-ignored~ends", Kills: "proc/sigint-ignored", Bug: "Ctrl-C at the terminal ends it",
			Main: func() {
				serve(&configuring{Driver: reference(), configured: func() {
					interrupted := make(chan os.Signal, 1)
					signal.Notify(interrupted, syscall.SIGINT)
					go func() {
						<-interrupted
						die()
					}()
				}})
			},
		},
		{
			ID: "proc/no-descendants-after-stop~helper", Kills: "proc/no-descendants-after-stop", Bug: "a helper process outlives it",
			Main: func() {
				serve(&configuring{Driver: reference(), configured: func() {
					helper := exec.CommandContext(context.Background(), "/bin/sleep", "20")
					_ = helper.Start() // without the helper the case does not fail, and says so
				}})
			},
		},
	}
}

// onTerm does something when SIGTERM comes.
func onTerm(do func()) {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		do()
	}()
}

func burdenMutants() []Mutant {
	return []Mutant{
		{
			ID: "proc/keepalive-permitted~refused", Kills: "proc/keepalive-permitted", Bug: "its gRPC server takes pings for an attack, as they are by default",
			Main: func() { byHand(handshake.ProtocolMajor) },
			Also: []string{"proc/sigterm-drains"},
		},
		{
			ID: "proc/survives-panic~goroutine", Kills: "proc/survives-panic", Bug: "a goroutine of the driver panics about a file that does not exist",
			Main: func() { serve(&fragile{reference()}) },
		},
		{
			ID: "proc/stderr-flood~waits", Kills: "proc/stderr-flood", Bug: "a line in the log is written before the call is answered",
			Main: func() { serve(&loud{reference()}) },
		},
		{
			ID: "resilience/frozen~watchdog", Kills: "resilience/frozen", Bug: "its watchdog takes a process that stood still for one that hangs",
			Main: func() {
				go watchdog()
				serve(reference())
			},
		},
	}
}

// fragile panics where nothing of the SDK's can catch it.
type fragile struct{ *fake.Driver }

// StatFile implements sdk.FileReader.
func (d *fragile) StatFile(ctx context.Context, req *providerv1.StatFileRequest) (*providerv1.FileInfo, error) {
	info, err := d.Driver.StatFile(ctx, req)
	if err != nil {
		go panic("no file")
	}
	return info, err
}

// loud logs each call the plain way.
type loud struct{ *fake.Driver }

// GetSandbox implements sdk.Driver.
func (d *loud) GetSandbox(ctx context.Context, req *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) {
	_, _ = syscall.Write(syscall.Stderr, []byte("GetSandbox "+req.GetSandbox().GetSandboxId()+"\n")) // nobody can be told that telling failed
	return d.Driver.GetSandbox(ctx, req)
}

// watchdog ends the process when the clock has leapt.
func watchdog() {
	const often, most = 50 * time.Millisecond, time.Second
	last := time.Now()
	for now := range time.NewTicker(often).C {
		if now.Sub(last) > most {
			die()
		}
		last = now
	}
}
