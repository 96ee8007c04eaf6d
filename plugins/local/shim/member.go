package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"

	"github.com/sandbar-dev/sandbar/plugins/local/record"
	"github.com/sandbar-dev/sandbar/plugins/local/rootfs"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// adoption is what a member is told on its standard input when its folder has
// become a sandbox's. It holds nothing: all there is to know is in the record.
type adoption struct{}

// Member is a shim of the warm pool, as the plugin that started it holds it: a
// guest that runs, and is nobody's sandbox yet. It ends when the plugin does.
type Member struct {
	cmd     *exec.Cmd
	orders  *os.File // the other end's end of file is the end of the plugin
	answers *os.File
	wait    func()
}

// SpawnMember is Spawn for a member of the warm pool; boot.Member is set.
func SpawnMember(ctx context.Context, binary, dir string, lock *os.File, boot *Boot) (_ *Member, err error) {
	stdin, orders, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make pipe of pool member: %w", err), lock.Close())
	}
	defer func() { _ = stdin.Close() }()
	cmd, answers, err := startProcess(ctx, binary, dir, lock, stdin)
	if err != nil {
		return nil, errors.Join(err, orders.Close())
	}
	m := &Member{cmd: cmd, orders: orders, answers: answers, wait: sync.OnceFunc(func() { _ = cmd.Wait() })}
	if err = json.NewEncoder(orders).Encode(boot); err == nil {
		err = awaitReady(ctx, answers, dir)
	}
	if err != nil {
		m.Kill()
		return nil, err
	}
	return m, nil
}

// Adopt tells a member that its folder has become the one at dir, and waits
// until it serves that sandbox. After a failure the member is dead.
func (m *Member) Adopt(ctx context.Context, dir string) error {
	err := json.NewEncoder(m.orders).Encode(adoption{})
	if err == nil {
		err = awaitReady(ctx, m.answers, dir)
	}
	if err != nil {
		m.Kill()
		return fmt.Errorf("adopt member of the pool: %w", err)
	}
	m.release()
	return nil
}

// Kill ends a member and returns when all of its processes are gone.
func (m *Member) Kill() {
	_ = m.cmd.Process.Kill()
	m.wait()
	m.release()
}

// Wait waits for the end of the process, as a member or as a sandbox. Somebody
// must call it or Kill, so that no zombie stays.
func (m *Member) Wait() { m.wait() }

func (m *Member) release() { _, _ = m.orders.Close(), m.answers.Close() }

// errDismissed ends a member that did not become a sandbox.
var errDismissed = errors.New("the plugin of this pool member ended")

// awaitAdoption waits until the shim is somebody's sandbox. If it never is, the
// guest and the folder are gone when it returns an error.
//
// What decides is where the folder is, and not what is heard: a plugin that
// dies between the rename and its message leaves a sandbox, and one that dies
// before leaves nothing.
func (s *server) awaitAdoption(in *json.Decoder, answers io.Writer) error {
	defer func() { _ = s.folder.Close() }()
	heard := make(chan struct{})
	go func() { // ends with the pipe, which the plugin's end closes
		defer close(heard)
		var msg adoption
		_ = in.Decode(&msg)
	}()
	select {
	case <-heard:
	case <-s.guest.sb.Done():
		return s.dismiss(errors.New("the guest of this pool member ended by itself"))
	}
	dir, rec, err := record.Adopted(descriptorPath(s.folder), s.guest.life.dir)
	if err != nil {
		return s.dismiss(fmt.Errorf("%w: %w", errDismissed, err))
	}
	if err := s.rename(rec); err != nil {
		_ = json.NewEncoder(answers).Encode(ready{Fault: faultOf(err)})
		return s.dismiss(err)
	}
	s.guest.id, s.guest.spec, s.member = rec.Sandbox.GetIdentity().GetSandboxId(), rec.Spec, false
	if err := s.guest.life.adopt(dir, rec); err != nil {
		err = fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG, "write record of adopted sandbox: %w", err)
		_ = json.NewEncoder(answers).Encode(ready{Fault: faultOf(err)})
		return err
	}
	_ = json.NewEncoder(answers).Encode(ready{OK: true})
	return nil
}

// rename gives the guest the host name of the sandbox that it becomes, before
// anybody can look: below what the guest writes, as in a guest that is made for
// a sandbox, and in its kernel.
func (s *server) rename(rec *record.Sandbox) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeBudget)
	defer cancel()
	name := hostname(rec)
	if err := rootfs.Rename(s.guest.life.rootDir(), name); err != nil {
		return err
	}
	return s.guest.sb.SetHostname(ctx, name)
}

// dismiss ends a member.
func (s *server) dismiss(why error) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeBudget)
	defer cancel()
	return errors.Join(why, s.guest.sb.Close(ctx), s.guest.life.clear())
}
