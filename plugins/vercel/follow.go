package vercel

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
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
func (p *command) follow() {
	defer p.cancel()
	for breaks := 0; ; breaks++ {
		lines, err := p.read()
		if err == nil || errors.Is(err, errNotStarted) || p.life.Err() != nil {
			p.settle(nil, errStopped) // unless it is settled
			return
		}
		if lines > 0 {
			breaks = 0
		}
		if errors.Is(err, errGap) || errors.Is(err, errLine) || breaks == mostBreaks || !p.again(breaks) {
			p.lost(err)
			return
		}
	}
}

// read handles the lines of one stream, and returns how many were news. No error
// means that all has been said.
func (p *command) read() (int, error) {
	var parts [2]string
	lines := 0
	for {
		event, err := p.stream.Next()
		if err != nil {
			return lines, err
		}
		if event.Command != nil {
			p.mu.Lock()
			p.vendorID = event.Command.ID
			p.mu.Unlock()
			continue
		}
		from := 0
		if event.Stream == "stderr" {
			from = 1
		}
		text := parts[from] + event.Text
		for {
			line, rest, whole := strings.Cut(text, "\n")
			if !whole {
				break
			}
			text = rest
			news, err := p.heard(line, from)
			if err != nil {
				return lines, err
			}
			if news {
				lines++
			}
			if p.said() {
				return lines, nil
			}
		}
		if parts[from] = text; len(text) > maxLine {
			return lines, fmt.Errorf("%w: one of more than %d bytes", errLine, maxLine)
		}
	}
}

// said reports that everything has been.
func (p *command) said() bool { return p.ended() && p.out[0].whole() && p.out[1].whole() }

// heard handles a line, and reports whether it was news.
func (p *command) heard(line string, from int) (bool, error) {
	s, err := parse(line)
	if err != nil {
		if from == 1 { // a shell or an interpreter complains there
			p.d.opts.Log.Debug("a runner complained", "exec_id", p.execID, "line", line)
			return false, nil
		}
		return false, err
	}
	switch s.kind {
	case started:
		return p.begin(s.offset, nil), nil
	case refused:
		p.begin(0, fault.Field("spec.workdir", p.workdir, "want a folder that exists in the sandbox: "+s.text))
		p.settle(nil, errNotStarted)
		return false, errNotStarted
	case failed:
		p.begin(0, fault.New(providerv1.ErrorReason_ERROR_REASON_HOST_UNSUPPORTED, "commands cannot be run in this sandbox: %s", s.text).
			With("missing", s.text).With("remedy", "use an image that has perl"))
		p.settle(nil, errNotStarted)
		return false, errNotStarted
	case output:
		return p.out[s.stream].put(s.offset, s.data)
	case finished:
		return p.out[s.stream].end(s.offset)
	case taken, unread:
		if p.in == nil {
			return false, fmt.Errorf("%w: there is no standard input", errLine)
		}
		return p.in.took(s.offset, s.kind == unread), nil
	case exited:
		return p.settle(exec.Exited(int(s.offset)), nil), nil
	default:
		return p.settle(exec.Killed(signalName(int(s.offset))), nil), nil
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
func (p *command) begin(pid int64, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.begun:
		return false
	default:
	}
	p.pid, p.beginErr = pid, err
	close(p.begun)
	return true
}

// settle says how the command ended, once.
func (p *command) settle(status *providerv1.ExitStatus, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.over:
		return false
	default:
	}
	p.status, p.endErr = status, err
	close(p.over)
	return true
}

// again opens the vendor's record of the command.
func (p *command) again(breaks int) bool {
	timer := time.NewTimer(firstBackoff << breaks)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.life.Done():
		return false
	}
	p.mu.Lock()
	id := p.vendorID
	p.mu.Unlock()
	if id == "" {
		return false // nobody knows what to ask for
	}
	ctx, cancel := context.WithTimeout(p.life, sideCall)
	defer cancel()
	stream, err := p.c.vendor.Logs(ctx, p.session, id)
	if err != nil {
		p.d.opts.Log.Debug("the record of a command could not be opened", "exec_id", p.execID, "error", err)
		return !upstream.Is(err, http.StatusNotFound, http.StatusGone, http.StatusUnprocessableEntity)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stream.Close()
	p.stream = stream
	if p.life.Err() != nil {
		stream.Close() // nobody else will
	}
	return true
}

// lost says what can be said of a command whose stream is gone for good: that it
// died with its sandbox, if the vendor says that the sandbox has ended.
func (p *command) lost(cause error) {
	ctx, cancel := context.WithTimeout(p.life, sideCall)
	defer cancel()
	why := fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "the stream of the command broke: %w", cause)
	if !p.begin(0, why) {
		p.d.opts.Log.Warn("the stream of a command is lost", "exec_id", p.execID, "error", cause)
	}
	p.out[0].fail(cause)
	p.out[1].fail(cause)
	found, err := p.d.GetSandbox(ctx, upstream.BySandbox(p.ref))
	gone := fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND)
	if at, ok := readHandle(found.GetHandle()); ok && at.Session != p.session {
		gone = true // it was paused and resumed meanwhile
	}
	switch found.GetState() {
	case providerv1.SandboxState_SANDBOX_STATE_FAILED, providerv1.SandboxState_SANDBOX_STATE_PAUSED, providerv1.SandboxState_SANDBOX_STATE_PAUSING:
		gone = true
	}
	if gone {
		p.settle(&providerv1.ExitStatus{
			Result: &providerv1.ExitStatus_Signal{Signal: "SIGKILL"}, Cause: providerv1.ExitCause_EXIT_CAUSE_SANDBOX, Detail: "its sandbox ended, or was paused",
		}, nil)
		return
	}
	p.settle(nil, why)
}

// take is called when the SDK has taken over so much that the runner should know.
func (p *command) take() {
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// acknowledge tells the runner what was taken over, the newest word only.
func (p *command) acknowledge() {
	for {
		select {
		case <-p.news:
		case <-p.life.Done():
			return
		}
		ctx, cancel := context.WithTimeout(p.life, sideCall)
		err := p.writeAck(ctx, strconv.FormatInt(p.out[0].read(), 10)+" "+strconv.FormatInt(p.out[1].read(), 10))
		cancel()
		if err == nil || p.life.Err() != nil {
			continue
		}
		p.d.opts.Log.Warn("an acknowledgement did not reach a runner", "exec_id", p.execID, "error", err)
		timer := time.NewTimer(firstBackoff)
		select {
		case <-timer.C:
			p.take()
		case <-p.life.Done():
			timer.Stop()
		}
	}
}

func (p *command) writeAck(ctx context.Context, text string) error {
	return p.writeFile(ctx, ackFile(p.execID), []byte(text+"\n"))
}

// writeFile writes a file for the runner.
func (p *command) writeFile(ctx context.Context, name string, content []byte) error {
	archive, err := oneFile(strings.TrimPrefix(name, "/"), content)
	if err != nil {
		return err
	}
	return p.c.vendor.WriteFiles(ctx, p.session, "/", archive)
}

// oneFile is a tar.gz of one file.
func oneFile(name string, content []byte) ([]byte, error) {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = w.Write(content)
	}
	if err = errors.Join(err, w.Close(), zip.Close()); err != nil {
		return nil, fmt.Errorf("pack a file: %w", err)
	}
	return out.Bytes(), nil
}
