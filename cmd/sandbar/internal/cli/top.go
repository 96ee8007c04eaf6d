package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/terminal"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/value"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

type topCmd struct {
	Every value.Duration `default:"2s" help:"How often a terminal is drawn anew." placeholder:"TIME"`
	Once  bool           `help:"Print one table and end, on a terminal too."`
}

// Help is shown below the flags.
func (*topCmd) Help() string {
	return "Rates, failures and times are those of the last minute (creates: with restore and fork; changes: pause, resume, delete, snapshot), through the broker that is asked, of all tenants. " +
		"A terminal is drawn anew until Ctrl-C; a pipe, and --json, get one table."
}

// Run shows how the providers fare.
func (c *topCmd) Run(ctx context.Context, a *app) error {
	first, err := a.activity(ctx)
	if err != nil {
		return err
	}
	switch {
	case a.JSON:
		return render.Message(a.stdout, first)
	case c.Once || !terminal.Is(a.stdout):
		return a.showActivity(first)
	}
	screen, err := terminal.NewScreen(a.stdout)
	if err != nil {
		return err
	}
	err = c.watch(ctx, a, screen, first)
	return errors.Join(err, screen.Restore())
}

// watch draws until it is interrupted, which is how it ends and no failure. A
// broker that is away is told of below what it said last.
func (c *topCmd) watch(ctx context.Context, a *app, screen *terminal.Screen, last *brokerv1.GetActivityResponse) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resized := make(chan struct{}, 1)
	defer a.signals.handle(func(s os.Signal) {
		switch {
		case interrupts(s):
			cancel(&interruptedError{s})
		case s == unix.SIGWINCH:
			select {
			case resized <- struct{}{}:
			default:
			}
		}
	})()
	tick := time.NewTicker(time.Duration(c.Every))
	defer tick.Stop()
	trouble := ""
	for {
		if err := screen.Draw(activityText(last, trouble)); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			var i *interruptedError
			if errors.As(context.Cause(ctx), &i) && i.signal == os.Interrupt {
				return nil
			}
			return context.Cause(ctx)
		case <-resized:
			continue
		case <-tick.C:
		}
		next, err := a.activity(ctx)
		switch {
		case ctx.Err() != nil: // it ends above
		case err == nil:
			last, trouble = next, ""
		case connectionLost(err):
			trouble = oneLine(err.Error())
		default:
			return err
		}
	}
}

func (a *app) activity(ctx context.Context) (*brokerv1.GetActivityResponse, error) {
	return steady(ctx, a, quickCall, func(ctx context.Context, cl *client.Client) (*brokerv1.GetActivityResponse, error) {
		res, err := cl.Admin.GetActivity(ctx, request(&brokerv1.GetActivityRequest{}))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	})
}

func (a *app) showActivity(m *brokerv1.GetActivityResponse) error {
	_, err := a.stdout.WriteString(activityText(m, ""))
	return err
}

// activityText is the table, with what is the trouble, if there is any, below.
func activityText(m *brokerv1.GetActivityResponse, trouble string) string {
	window := m.GetWindow().AsDuration()
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s, within %s\n\n", m.GetAt().AsTime().Local().Format("15:04:05"), render.Span(window))
	var now, lately [][]string
	var reasons []string
	for _, p := range m.GetProviders() {
		now = append(now, []string{
			p.GetProvider(), render.Enum(p.GetState(), "PLUGIN_STATE_"), strconv.Itoa(int(p.GetStarts())),
			strings.ReplaceAll(p.GetCircuit(), "_", "-"), strconv.Itoa(int(p.GetStreams())), sandboxCounts(p),
		})
		row := append([]string{p.GetProvider()}, tallyCells(p.GetCreates(), window)...)
		row = append(row, tallyCells(p.GetExecs(), window)...)
		lately = append(lately, append(row, tallyCells(p.GetChanges(), window)[:2]...))
		if p.GetStatusReason() != "" && p.GetState() != brokerv1.PluginState_PLUGIN_STATE_READY {
			reasons = append(reasons, p.GetProvider()+": "+oneLine(printable(p.GetStatusReason())))
		}
	}
	// A buffer takes everything.
	_ = render.Table(&out, []string{"PROVIDER", "PLUGIN", "STARTS", "CIRCUIT", "STREAMS", "SANDBOXES"}, now)
	out.WriteByte('\n')
	_ = render.Table(&out, []string{"PROVIDER", "CREATE/S", "FAILED", "P50", "P95", "EXEC/S", "FAILED", "P50", "P95", "CHANGE/S", "FAILED"}, lately)
	if trouble != "" {
		reasons = append(reasons, trouble)
	}
	if len(reasons) > 0 {
		fmt.Fprintf(&out, "\n%s\n", strings.Join(reasons, "\n"))
	}
	return out.String()
}

// sandboxCounts says how many sandboxes are in which state.
func sandboxCounts(p *brokerv1.ProviderActivity) string {
	var parts []string
	for _, c := range p.GetSandboxes() {
		parts = append(parts, strconv.FormatInt(c.GetCount(), 10)+" "+strings.ToLower(lifecycle.Name(c.GetState())))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// tallyCells are rate, failures and times of one kind of calls.
func tallyCells(t *brokerv1.CallTally, window time.Duration) []string {
	rate := "0"
	if n := t.GetSucceeded() + t.GetFailed(); n > 0 && window > 0 {
		rate = strconv.FormatFloat(float64(n)/window.Seconds(), 'f', 2, 64)
	}
	return []string{rate, strconv.FormatInt(t.GetFailed(), 10), shortTime(t.GetP50()), shortTime(t.GetP95())}
}

// shortTime writes a time with about two digits.
func shortTime(d *durationpb.Duration) string {
	switch t := d.AsDuration(); {
	case d == nil:
		return ""
	case t < 10*time.Millisecond:
		return strconv.FormatFloat(float64(t)/float64(time.Millisecond), 'f', 1, 64) + "ms"
	case t < time.Second:
		return strconv.FormatInt(t.Milliseconds(), 10) + "ms"
	default:
		return strconv.FormatFloat(t.Seconds(), 'f', 1, 64) + "s"
	}
}
