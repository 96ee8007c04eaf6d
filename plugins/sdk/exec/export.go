package exec

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// exportVersion is the version of the encoding; Import reads every version that
// a release wrote.
const exportVersion = 1

// snapshot is an exported table.
type snapshot struct {
	Version int
	Execs   []record
}

// record is an exported exec.
type record struct {
	Key       Key
	Digest    []byte
	Spec      []byte
	StartedAt time.Time
	EndedAt   time.Time
	// Exit is empty while the command runs.
	Exit []byte
	// Left is what remains of the timeout; 0: no timeout.
	Left    time.Duration
	Sent    []string
	SizeSeq uint64
	Logs    [2]logRecord
	Stdin   stdinRecord
}

type logRecord struct {
	Oldest, Mark int64
	Data         []byte
	EOF          bool
	Broken       string
}

type stdinRecord struct {
	Accepted, Written, End int64
	Pending                []byte
	Gone                   bool
}

// Export returns all execs with their retained output, pending input and
// offsets. The table must be frozen.
func (t *Table) Export() ([]byte, error) {
	out := snapshot{Version: exportVersion}
	for _, s := range t.all() {
		r, err := s.export()
		if err != nil {
			return nil, err
		}
		out.Execs = append(out.Execs, r)
	}
	slices.SortFunc(out.Execs, func(a, b record) int { return a.StartedAt.Compare(b.StartedAt) })
	var buf bytes.Buffer
	if err := gob.NewEncoder(&buf).Encode(out); err != nil {
		return nil, fmt.Errorf("export execs: %w", err)
	}
	return buf.Bytes(), nil
}

func (s *session) export() (record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.frozen {
		return record{}, fmt.Errorf("export exec %q: the table is not frozen", s.st.key.Exec)
	}
	st := s.st
	spec, err := proto.Marshal(st.spec)
	if err != nil {
		return record{}, fmt.Errorf("export exec %q: %w", st.key.Exec, err)
	}
	r := record{
		Key: st.key, Digest: st.digest, Spec: spec, StartedAt: st.startedAt, EndedAt: st.endedAt, SizeSeq: st.sizeSeq,
		Stdin: stdinRecord{
			Accepted: st.in.accepted, Written: st.in.written, End: st.in.end, Gone: st.in.gone,
			Pending: bytes.Join(st.in.pending, nil),
		},
	}
	if st.exit != nil {
		if r.Exit, err = proto.Marshal(st.exit); err != nil {
			return record{}, fmt.Errorf("export exec %q: %w", st.key.Exec, err)
		}
	}
	if !s.deadline.IsZero() {
		r.Left = max(s.deadline.Sub(s.opts.now()), time.Nanosecond)
	}
	for name := range s.did.sent {
		r.Sent = append(r.Sent, name)
	}
	for i := range st.logs {
		log := &st.logs[i]
		r.Logs[i] = logRecord{Oldest: log.oldest, Mark: st.mark[i], Data: log.retained(), EOF: log.eof}
		if log.broken != nil {
			r.Logs[i].Broken = log.broken.Error()
		}
	}
	return r, nil
}

// Import puts exported execs into the table and runs them on. obtain returns the
// live Process of each command that had not ended; its streams continue exactly
// where the exported offsets stand. If obtain fails, the exec ends with cause
// UNKNOWN. sandbox, if not empty, replaces the sandbox id: that is how a fork
// takes over the commands of its origin.
//
// It is an error to import an exec that the table has.
func (t *Table) Import(data []byte, sandbox string, obtain func(Key, *providerv1.ExecSpec) (Process, error)) error {
	var in snapshot
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(&in); err != nil {
		return fmt.Errorf("import execs: %w", err)
	}
	if in.Version != exportVersion {
		return fmt.Errorf("import execs: version is %d: want %d", in.Version, exportVersion)
	}
	for _, r := range in.Execs {
		if sandbox != "" {
			r.Key.Sandbox = sandbox
		}
		if err := t.restore(r, obtain); err != nil {
			return fmt.Errorf("import exec %q: %w", r.Key.Exec, err)
		}
	}
	return nil
}

func (t *Table) restore(r record, obtain func(Key, *providerv1.ExecSpec) (Process, error)) error {
	spec := &providerv1.ExecSpec{}
	if err := proto.Unmarshal(r.Spec, spec); err != nil {
		return err
	}
	s, err := t.rebuild(r, spec)
	if err != nil {
		return err
	}
	if s.st.exit == nil {
		if s.proc, err = obtain(r.Key, spec); err != nil || s.proc == nil {
			s.lost(fmt.Errorf("the command could not be taken up again: %w", errors.Join(err)))
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sessions[r.Key] != nil || t.starting[r.Key] != nil {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS, "exec %q exists", r.Key.Exec)
	}
	if s.proc != nil {
		t.adopt(s)
		return nil
	}
	t.sessions[r.Key] = s
	s.cancel()
	close(s.over)
	t.retireLocked(s)
	return nil
}

func (t *Table) rebuild(r record, spec *providerv1.ExecSpec) (*session, error) {
	st := newState(r.Key, r.Digest, spec, t.opts.Retain, r.StartedAt)
	st.sizeSeq = r.SizeSeq
	for i, l := range r.Logs {
		st.mark[i] = l.Mark
		log := &st.logs[i]
		log.oldest, log.total, log.eof = l.Oldest, l.Oldest+int64(len(l.Data)), l.EOF
		if len(l.Data) > 0 {
			log.chunks = []chunk{{start: l.Oldest, data: slices.Clip(l.Data)}}
		}
		if l.Broken != "" {
			log.broken = errors.New(l.Broken)
		}
	}
	st.in = inputQueue{accepted: r.Stdin.Accepted, written: r.Stdin.Written, end: r.Stdin.End, gone: r.Stdin.Gone}
	if len(r.Stdin.Pending) > 0 {
		st.in.pending = [][]byte{r.Stdin.Pending}
	}
	if len(r.Exit) > 0 {
		exit := &providerv1.ExitStatus{}
		if err := proto.Unmarshal(r.Exit, exit); err != nil {
			return nil, err
		}
		st.end(exit, r.EndedAt)
	}
	s := newSession(t.opts, st)
	for _, name := range r.Sent {
		s.did.sent[name] = true
	}
	s.deadline = time.Time{}
	if r.Left > 0 {
		s.deadline = t.opts.now().Add(r.Left)
	}
	return s, nil
}

// lost ends a session that has no process any more.
func (s *session) lost(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.st.exit == nil {
		s.st.end(unknownEnd(err.Error()), s.opts.now())
	}
	for i := range s.st.logs {
		s.st.logs[i].finish(err)
	}
}
