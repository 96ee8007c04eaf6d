package cli

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/daemon"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

type daemonCmd struct {
	Status daemonStatusCmd `cmd:"" help:"Show whether your own broker runs."`
	Stop   daemonStopCmd   `cmd:"" help:"Stop your own broker; sandboxes live on."`
}

// daemonReport is the form of daemon status under --json.
type daemonReport struct {
	Running   bool      `json:"running"`
	Socket    string    `json:"socket"`
	Log       string    `json:"log"`
	PID       int32     `json:"pid"`
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at,omitzero"`
	OnDemand  bool      `json:"on_demand"`
	IdleExit  float64   `json:"idle_exit_seconds"`
	Owner     string    `json:"owner"`
}

type daemonStatusCmd struct{}

// Run shows the daemon and starts none.
func (c *daemonStatusCmd) Run(ctx context.Context, a *app) error {
	place, server, err := a.askDaemon(ctx)
	if err != nil {
		return err
	}
	report := daemonReport{
		Running: server != nil, Socket: place.Socket(), Log: place.Log(), PID: server.GetPid(), Version: server.GetVersion(),
		OnDemand: server.GetOnDemand(), IdleExit: server.GetIdleExit().AsDuration().Seconds(), Owner: server.GetOwner(),
	}
	if server.GetStartedAt() != nil {
		report.StartedAt = server.GetStartedAt().AsTime()
	}
	if a.JSON {
		return render.Value(a.stdout, report)
	}
	if server == nil {
		return a.out("not running; the next command that needs it starts it at %s", place.Socket())
	}
	idle := "never"
	if d := server.GetIdleExit().AsDuration(); d > 0 {
		idle = "after " + render.Span(d) + " without use"
	}
	rows := [][]string{
		{"pid", strconv.Itoa(int(report.PID))},
		{"version", report.Version},
		{"started", render.Ago(a.now(), server.GetStartedAt())},
		{"stops", idle},
		{"log", report.Log},
	}
	if err := render.Table(a.stdout, []string{"socket", report.Socket}, rows); err != nil {
		return err
	}
	if report.Version != a.version {
		a.warn("the broker is version %s and this is %s; `sandbar daemon stop` lets the next command start this version", report.Version, a.version)
	}
	return nil
}

// askDaemon asks the user's own broker what it is; nil if none runs.
func (a *app) askDaemon(ctx context.Context) (daemon.Place, *brokerv1.GetServerResponse, error) {
	place, err := daemon.Locate(a.getenv)
	if err != nil {
		return place, nil, err
	}
	if !daemon.Listening(ctx, place) {
		return place, nil, nil
	}
	a.client = client.New(place.Address(), client.Options{Version: a.version})
	ctx, cancel := context.WithTimeout(ctx, quickCall)
	defer cancel()
	res, err := a.client.Admin.GetServer(ctx, request(&brokerv1.GetServerRequest{}))
	if err != nil {
		return place, nil, err
	}
	return place, res.Msg, nil
}

type daemonStopCmd struct{}

// Run stops the daemon and waits until it is gone, so that the next command
// starts a new one.
func (c *daemonStopCmd) Run(ctx context.Context, a *app) error {
	place, server, err := a.askDaemon(ctx)
	if err != nil {
		return err
	}
	if server == nil {
		a.note("no broker of yours is running")
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, quickCall, fmt.Errorf("process %d was asked to stop and has not ended", server.GetPid()))
	defer cancel()
	if err := a.stopServer(ctx, place); err != nil {
		return err
	}
	a.note("stopped process %d; its sandboxes live on", server.GetPid())
	return nil
}
