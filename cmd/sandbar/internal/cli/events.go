package cli

import (
	"context"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// oldestEvent is the cursor that stands for the oldest event that is kept.
const oldestEvent = "oldest"

type eventsCmd struct {
	Since    string `help:"Start behind this cursor, or with the oldest event that is kept; default: with what happens from now on." placeholder:"CURSOR|oldest"`
	UntilNow bool   `help:"End when all that has happened is shown."`
	Sandbox  string `help:"Only events of the sandbox with this id." placeholder:"ID"`
	Provider string `help:"Only events of sandboxes on this provider." placeholder:"NAME"`
}

// Help is shown below the flags.
func (*eventsCmd) Help() string {
	return "With --json each line is one event, and its cursor is where another `sandbar events --since` goes on. " +
		"A broker keeps events for a week; where some are missing it says so, with --json as a line {\"gap\": …}."
}

// eventRetryMax bounds how often a broker that is gone is looked for.
const eventRetryMax = 5 * time.Second

// Run shows events until it is interrupted. A broker that went away is waited for,
// as it goes on where it stood.
func (c *eventsCmd) Run(ctx context.Context, a *app) error {
	req := &brokerv1.WatchEventsRequest{SandboxId: c.Sandbox, Provider: c.Provider, UntilNow: c.UntilNow, Cursor: c.Since}
	if c.Since == oldestEvent {
		req.Cursor, req.FromOldest = "", true
	}
	wait := 100 * time.Millisecond
	for {
		moved, err := a.watchEvents(ctx, req)
		if err == nil || !connectionLost(err) && !draining(err) || req.GetCursor() == "" {
			return err
		}
		if moved {
			wait = 100 * time.Millisecond
		}
		a.note("the broker went away; waiting for it")
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
			wait = min(2*wait, eventRetryMax)
		}
	}
}

// watchEvents shows events of one connection, and moves the cursor of the request.
func (a *app) watchEvents(ctx context.Context, req *brokerv1.WatchEventsRequest) (moved bool, err error) {
	cl, err := a.connect(ctx)
	if err != nil {
		return false, err
	}
	stream, err := cl.WatchEvents(ctx, connect.NewRequest(req))
	if err != nil {
		return false, err
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		msg := stream.Msg()
		if err := a.showEvents(msg); err != nil {
			return moved, err
		}
		req.Cursor, req.FromOldest, moved = msg.GetCursor(), false, true
	}
	return moved, stream.Err()
}

func (a *app) showEvents(msg *brokerv1.WatchEventsResponse) error {
	if gap := msg.GetGap(); gap != nil {
		if a.JSON {
			if err := render.Line(a.stdout, map[string]any{"gap": map[string]string{"reason": gap.GetReason()}}); err != nil {
				return err
			}
		} else {
			a.warn("%s", gap.GetReason())
		}
	}
	for _, e := range msg.GetEvents() {
		if a.JSON {
			if err := render.MessageLine(a.stdout, e); err != nil {
				return err
			}
			continue
		}
		if err := a.out("%s", eventLine(e)); err != nil {
			return err
		}
	}
	return nil
}

// eventLine is an event for people.
func eventLine(e *brokerv1.Event) string {
	what := strings.ToLower(strings.TrimPrefix(e.GetType().String(), "EVENT_TYPE_SANDBOX_"))
	if e.GetType() == brokerv1.EventType_EVENT_TYPE_SANDBOX_STATE_CHANGED {
		what = lifecycle.Name(e.GetPreviousState()) + " -> " + lifecycle.Name(e.GetState())
	}
	at := e.GetAt().AsTime().Local().Format("2006-01-02 15:04:05.000") + "  "
	line := at + e.GetSandboxId() + "  " + e.GetProvider() + "  " + strings.ReplaceAll(what, "_", " ")
	if id := e.GetWebhookId(); id != "" {
		line = at + id + "  " + strings.ToLower(strings.TrimPrefix(e.GetType().String(), "EVENT_TYPE_WEBHOOK_"))
	}
	if e.GetName() != "" {
		line += "  " + e.GetName()
	}
	if e.GetReason() != "" {
		line += "  (" + oneLine(printable(e.GetReason())) + ")"
	}
	return line
}

// draining reports whether the broker said that it is about to stop.
func draining(err error) bool { return fault.Has(err, providerv1.ErrorReason_ERROR_REASON_DRAINING) }
