package runner

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

var (
	// errGap says that the vendor's record of a command lacks some of its output.
	errGap = errors.New("some of the command's output is gone at the vendor")
	// errNotStarted ends a stream whose runner said that there is no command.
	errNotStarted = errors.New("it was not started")
	// errStopped is all that is known of a command that nobody follows any more.
	errStopped = errors.New("the plugin stopped")
)

// follow reads what the runner says to its end. When the stream breaks it goes on
// with the vendor's record of the command, which starts anew: what is known already
// is told by its offset.
func (c *Command) follow() {
	defer c.cancel()
	for breaks := 0; ; breaks++ {
		lines, err := c.read()
		if err == nil || errors.Is(err, errNotStarted) || c.life.Err() != nil {
			c.settle(nil, errStopped) // unless it is settled
			return
		}
		if lines > 0 {
			breaks = 0
		}
		if errors.Is(err, errGap) || errors.Is(err, errLine) || breaks == mostBreaks || !c.again(breaks) {
			c.lost(err)
			return
		}
	}
}

// read handles the lines of one stream, and returns how many were news. No error
// means that all has been said.
func (c *Command) read() (int, error) {
	var parts [2]string
	lines := 0
	for {
		stderr, piece, err := c.stream.Next()
		if err != nil {
			return lines, err
		}
		from := 0
		if stderr {
			from = 1
		}
		text := parts[from] + piece
		for {
			line, rest, whole := strings.Cut(text, "\n")
			if !whole {
				break
			}
			text = rest
			news, err := c.heard(line, from)
			if err != nil {
				return lines, err
			}
			if news {
				lines++
			}
			if c.said() {
				return lines, nil
			}
		}
		if parts[from] = text; len(text) > maxLine {
			return lines, fmt.Errorf("%w: one of more than %d bytes", errLine, maxLine)
		}
	}
}

// said reports that everything has been.
func (c *Command) said() bool { return c.ended() && c.out[0].whole() && c.out[1].whole() }

// heard handles a line, and reports whether it was news.
func (c *Command) heard(line string, from int) (bool, error) {
	s, err := parse(line)
	if err != nil {
		if from == 1 { // a shell or an interpreter complains there
			c.pool.log.Debug("a runner complained", "exec_id", c.order.ExecID, "line", line)
			return false, nil
		}
		return false, err
	}
	switch s.kind {
	case started:
		return c.begin(s.offset, nil), nil
	case refused:
		c.begin(0, fault.Field("spec.workdir", c.order.Workdir, "want a folder that exists in the sandbox: "+s.text))
		c.settle(nil, errNotStarted)
		return false, errNotStarted
	case failed:
		c.begin(0, fault.New(providerv1.ErrorReason_ERROR_REASON_HOST_UNSUPPORTED, "commands cannot be run in this sandbox: %s", s.text).
			With("missing", s.text).With("remedy", "use an image that has perl"))
		c.settle(nil, errNotStarted)
		return false, errNotStarted
	case output:
		return c.out[s.stream].put(s.offset, s.data)
	case finished:
		return c.out[s.stream].end(s.offset)
	case taken, unread:
		if c.in == nil {
			return false, fmt.Errorf("%w: there is no standard input", errLine)
		}
		return c.in.took(s.offset, s.kind == unread), nil
	case exited:
		return c.settle(exec.Exited(int(s.offset)), nil), nil
	default:
		return c.settle(exec.Killed(signalName(int(s.offset))), nil), nil
	}
}

func signalName(number int) string {
	for signal, n := range signalNumbers {
		if n == number {
			return exec.SignalName(signal)
		}
	}
	if name, ok := otherSignals[number]; ok {
		return name
	}
	return "SIGRTMIN+" + strconv.Itoa(number-firstRealTime)
}

// firstRealTime is SIGRTMIN in a C library's counting.
const firstRealTime = 34

// begin says that the command runs, or that it does not, once.
func (c *Command) begin(pid int64, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.begun:
		return false
	default:
	}
	c.pid, c.beginErr = pid, err
	close(c.begun)
	return true
}

// settle says how the command ended, once.
func (c *Command) settle(status *providerv1.ExitStatus, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.over:
		return false
	default:
	}
	c.status, c.endErr = status, err
	close(c.over)
	return true
}

// again opens the vendor's record of the command.
func (c *Command) again(breaks int) bool {
	timer := time.NewTimer(firstBackoff << breaks)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.life.Done():
		return false
	}
	ctx, cancel := context.WithTimeout(c.life, sideCall)
	defer cancel()
	stream, err := c.order.Host.Open(ctx)
	if errors.Is(err, ErrGone) {
		return false
	}
	if err != nil { // the old stream breaks again at once
		c.pool.log.Debug("the record of a command could not be opened", "exec_id", c.order.ExecID, "error", err)
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stream.Close()
	c.stream = stream
	if c.life.Err() != nil {
		stream.Close() // nobody else will
	}
	return true
}

// lost says what can be said of a command whose stream is gone for good: that it
// died with its sandbox, if the vendor says that the sandbox has ended.
func (c *Command) lost(cause error) {
	ctx, cancel := context.WithTimeout(c.life, sideCall)
	defer cancel()
	why := fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "the stream of the command broke: %w", cause)
	if !c.begin(0, why) {
		c.pool.log.Warn("the stream of a command is lost", "exec_id", c.order.ExecID, "error", cause)
	}
	c.out[0].fail(cause)
	c.out[1].fail(cause)
	if c.order.Host.Gone(ctx) {
		c.settle(&providerv1.ExitStatus{
			Result: &providerv1.ExitStatus_Signal{Signal: "SIGKILL"}, Cause: providerv1.ExitCause_EXIT_CAUSE_SANDBOX, Detail: "its sandbox does not run any more",
		}, nil)
		return
	}
	c.settle(nil, why)
}

// take is called when the SDK has taken over so much that the runner should know.
func (c *Command) take() {
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// acknowledge tells the runner what was taken over, the newest word only.
func (c *Command) acknowledge() {
	for {
		select {
		case <-c.news:
		case <-c.life.Done():
			return
		}
		ctx, cancel := context.WithTimeout(c.life, sideCall)
		err := c.writeAck(ctx, strconv.FormatInt(c.out[0].read(), 10)+" "+strconv.FormatInt(c.out[1].read(), 10))
		cancel()
		if err == nil || c.life.Err() != nil {
			continue
		}
		c.pool.log.Warn("an acknowledgement did not reach a runner", "exec_id", c.order.ExecID, "error", err)
		timer := time.NewTimer(firstBackoff)
		select {
		case <-timer.C:
			c.take()
		case <-c.life.Done():
			timer.Stop()
		}
	}
}

func (c *Command) writeAck(ctx context.Context, text string) error {
	return c.order.Host.WriteFile(ctx, ackFile(c.order.ExecID), []byte(text+"\n"))
}
