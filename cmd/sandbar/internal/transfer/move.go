package transfer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/portable"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Sandboxes are the calls of the API that make and end sandboxes.
type Sandboxes interface {
	// Create returns a sandbox that can be used, and removes what may have become of
	// one when it fails.
	Create(ctx context.Context, req *brokerv1.CreateSandboxRequest) (*brokerv1.Sandbox, error)
	// Delete ends a sandbox, if it is there, while the survivor lives. From the moment
	// on in which that is decided the survivor has the name, unless it is empty.
	Delete(ctx context.Context, sandbox, survivor, name string) error
	// Labelled returns all live sandboxes with a label.
	Labelled(ctx context.Context, key, value string) ([]*brokerv1.Sandbox, error)
}

const (
	// maxAttempts bounds the attempts of one move; each leaves a key that is used up.
	maxAttempts = 100
	// undoLimit bounds the removal of what a failed move has made.
	undoLimit = 30 * time.Second
)

// Move carries a sandbox to another provider.
type Move struct {
	Source
	Sandboxes Sandboxes
	// Create is what to ask for, with the provider, and without an idempotency key. If it
	// has no name, the target has one for the time being, and that of the source once
	// the end of the source is decided; a copy keeps the one it has.
	Create *brokerv1.CreateSandboxRequest
	// KeepSource makes a copy: the source is not ended.
	KeepSource bool

	// name goes over to the target with the end of the source; it may be empty.
	name string
}

// Moved is what became of a move.
type Moved struct {
	Sandbox *brokerv1.Sandbox
	portable.Statement
	// Ended is set if the source was ended.
	Ended bool
}

// NotMovedError is a move that failed. Note says what there is now.
type NotMovedError struct {
	Cause error
	Note  string
}

// Error has the note on a line of its own.
func (e *NotMovedError) Error() string { return e.Cause.Error() + "\n  " + e.Note }

// Unwrap returns why it failed.
func (e *NotMovedError) Unwrap() error { return e.Cause }

// Run moves. Until the files have arrived and the source has not changed meanwhile,
// it only makes another sandbox, which it removes when it fails; then it ends the
// source in one step with proof that the other one lives. Whenever it is killed, at
// least one of the two is there whole, and a repetition removes what was left.
func (m *Move) Run(ctx context.Context) (*Moved, error) {
	scope, err := m.scope(ctx)
	if err != nil {
		return nil, err
	}
	m.name = m.Sandbox.GetName()
	if err := m.clear(ctx); err != nil {
		return nil, err
	}
	target, err := m.create(ctx)
	if err != nil {
		return nil, err
	}
	moved, err := m.carry(ctx, scope, target)
	if err != nil {
		return nil, m.undo(ctx, target, err)
	}
	if m.KeepSource {
		return moved, nil
	}
	if err := m.Sandboxes.Delete(ctx, m.id(), target.GetSandboxId(), target.GetLabels()[MovedName]); err != nil {
		err = m.undo(ctx, target, err)
		var gone *sourceGoneError
		if !errors.As(err, &gone) {
			return nil, err
		}
		// The wish to end the source is stored: the target is its successor.
	}
	moved.Ended = true
	if name := target.GetLabels()[MovedName]; name != "" {
		target.Name = name
	}
	return moved, nil
}

func (m *Move) id() string { return m.Sandbox.GetSandboxId() }

// clear removes what earlier attempts left, unless the source does not live any more:
// then one of them has succeeded. Of copies, which somebody may use, none is removed.
func (m *Move) clear(ctx context.Context) error {
	key := MovedFrom
	if m.KeepSource {
		key = CopiedFrom
	}
	left, err := m.Sandboxes.Labelled(ctx, key, m.id())
	if err != nil {
		return err
	}
	for _, sb := range left {
		if sb.GetParentId() != "" || sb.GetState() == providerv1.SandboxState_SANDBOX_STATE_DELETING {
			continue // a fork has the labels of its parent; the end of the other is decided
		}
		if m.KeepSource {
			if sb.GetProvider() != m.Create.GetProvider() {
				continue
			}
			return fault.New(providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS,
				"sandbox %s is a copy of it at %s already, or what an interrupted attempt left; remove it first", sb.GetSandboxId(), sb.GetProvider()).
				With("sandbox_id", sb.GetSandboxId())
		}
		name := sb.GetLabels()[MovedName]
		if err := m.Sandboxes.Delete(ctx, sb.GetSandboxId(), m.id(), name); err != nil {
			if sourceGone(err) {
				return fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "sandbox %s was moved meanwhile: it is %s now", m.id(), sb.GetSandboxId()).
					With("sandbox_id", m.id()).With("successor", sb.GetSandboxId())
			}
			return fmt.Errorf("remove what an earlier attempt left: %w", err)
		}
		if name != "" {
			m.name = name // the source has it again, if it had given it up
		}
	}
	return nil
}

// create makes the target. All attempts to move one sandbox take their keys from the
// same row, each with a request of its own, so that no two have the same target: who
// finds a key used removes what was made with it.
func (m *Move) create(ctx context.Context) (*brokerv1.Sandbox, error) {
	req := proto.CloneOf(m.Create)
	if req.Labels == nil {
		req.Labels = map[string]string{}
	}
	attempt := strings.ToLower(rand.Text())
	chosen := req.GetName() != ""
	if !chosen {
		// A name of our own lets an interrupted creation be undone.
		req.Name = "mv-" + attempt[:10]
	}
	if m.KeepSource {
		req.Labels[CopiedFrom], req.IdempotencyKey = m.id(), attempt
		return m.Sandboxes.Create(ctx, req)
	}
	req.Labels[MovedFrom], req.Labels[Attempt] = m.id(), attempt
	for n := range maxAttempts {
		if !chosen && m.name != "" {
			req.Labels[MovedName] = m.name // which clear may have found
		}
		req.IdempotencyKey = "move/" + m.id() + "/" + strconv.Itoa(n)
		sb, err := m.Sandboxes.Create(ctx, req)
		if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED) {
			return sb, err
		}
		if err := m.clear(ctx); err != nil {
			return nil, err
		}
	}
	return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, "%d attempts to move sandbox %s have failed or are under way", maxAttempts, m.id()).
		With("sandbox_id", m.id()).With("limit", "attempts").With("max", strconv.Itoa(maxAttempts))
}

// carry sends the files, proves that they arrived, and that they are still what the
// source has.
func (m *Move) carry(ctx context.Context, scope *Scope, target *brokerv1.Sandbox) (*Moved, error) {
	into := NewUnpacker(ctx, m.Files, target.GetSandboxId(), scope, m.Said)
	defer into.Abort()
	sent, err := scope.Read(ctx, m.Files, m.id(), into.Take)
	if err == nil {
		err = into.Close()
	}
	if err != nil {
		return nil, err
	}
	left, err := scope.arrived(ctx, m.Files, target.GetSandboxId(), sent.Tree)
	if err != nil {
		return nil, err
	}
	if !m.KeepSource {
		if err := m.unchanged(ctx, scope, sent.Tree); err != nil {
			return nil, err
		}
	}
	out := &Moved{Sandbox: target, Statement: portable.Statement{
		Kept: portable.Kept{Disk: true}, Paths: scope.Paths, Changes: scope.Changes,
		Count: sent.Tree.Count(), Tree: sent.Tree.Digest(),
		Left: append(portable.Never(m.Running), scope.Left...),
	}}
	if out.Paths == nil {
		out.Paths = []string{}
	}
	out.Left = append(append(out.Left, sent.Left()...), left...)
	return out, nil
}

// unchanged refuses to end a source that is not what was carried any more.
func (m *Move) unchanged(ctx context.Context, scope *Scope, sent *portable.Tree) error {
	if scope.Changes {
		now, err := m.scope(ctx)
		if err != nil {
			return err
		}
		if err := scope.same(now); err != nil {
			return err
		}
	}
	now, err := scope.Read(ctx, m.Files, m.id(), portable.Discard)
	if err != nil {
		return err
	}
	if diff := sent.Diff(now.Tree); len(diff) > 0 {
		return stirred("in sandbox " + m.id() + ", " + shown(diff) + ": it")
	}
	return nil
}

// sourceGoneError is a target that was kept, because the source does not live.
type sourceGoneError struct{ cause error }

func (e *sourceGoneError) Error() string { return e.cause.Error() }

func (e *sourceGoneError) Unwrap() error { return e.cause }

// sourceGone reports whether a removal was refused because the source, which is to
// survive it, does not live.
func sourceGone(err error) bool {
	var f *fault.Error
	return errors.As(err, &f) && f.Wire && f.Metadata["survivor"] != "" &&
		(f.Reason == providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND ||
			f.Reason == providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING && f.Metadata["state"] == "DELETING")
}

// undo removes the target and says what there is now.
func (m *Move) undo(ctx context.Context, target *brokerv1.Sandbox, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
	defer cancel()
	id := target.GetSandboxId()
	err := m.Sandboxes.Delete(ctx, id, m.id(), target.GetLabels()[MovedName])
	switch {
	case err == nil:
		return &NotMovedError{cause, fmt.Sprintf("sandbox %s goes on as it was; the new one was removed", m.id())}
	case sourceGone(err):
		return &NotMovedError{&sourceGoneError{cause}, fmt.Sprintf("sandbox %s is gone, and %s, which may lack files, was kept", m.id(), id)}
	default:
		return &NotMovedError{cause, fmt.Sprintf("sandbox %s may still be there (%v); `sandbar rm %s` removes it, and so does moving again", id, err, id)}
	}
}
