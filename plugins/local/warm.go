package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/plugins/local/pool"
	"github.com/sandbar-dev/sandbar/plugins/local/record"
	"github.com/sandbar-dev/sandbar/plugins/local/shim"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// warm is the pool of guests that run and are nobody's sandbox yet, all alike.
type warm struct {
	*pool.Pool[*member]
	settings settings
	// spec is what a sandbox must ask for, beside what can be given to a guest
	// that runs.
	spec *providerv1.SandboxSpec
}

// member is one of them.
type member struct {
	name string
	shim *shim.Member
	// became is the id of the sandbox it is now; nil: it is in the pool.
	became atomic.Pointer[string]
}

// newWarm starts the pool that settings ask for; nil if they ask for none.
func (d *Driver) newWarm(store *record.Store, set settings) *warm {
	if set.warmPool == 0 {
		return nil
	}
	w := &warm{settings: set, spec: &providerv1.SandboxSpec{Resources: set.withDefaults(nil)}}
	boot := shim.Boot{Root: shim.Root{Host: true}, RetainBytes: set.retain, Agent: d.conf.agent, Member: &shim.MemberSpec{
		MemoryBytes: w.spec.GetResources().GetMemoryBytes(),
		DiskBytes:   w.spec.GetResources().GetDiskBytes(), Pids: w.spec.GetResources().GetPids(),
	}}
	w.Pool = pool.New(pool.Options[*member]{
		Max: set.warmPool,
		Make: func(ctx context.Context, p *pool.Pool[*member]) (*member, error) {
			return d.makeMember(ctx, store, p, &boot)
		},
		End: func(m *member) {
			m.shim.Kill()
			if err := store.RemoveMember(m.name); err != nil {
				d.log.Warn("remove member of the warm pool", "error", err)
			}
		},
		Failed: func(err error) { d.log.Warn("fill the warm pool", "error", err) },
	})
	return w
}

// makeMember starts a guest in a folder of the pool. On failure nothing remains.
func (d *Driver) makeMember(ctx context.Context, store *record.Store, p *pool.Pool[*member], boot *shim.Boot) (_ *member, err error) {
	m := &member{name: rand.Text()}
	if err := store.MakeMember(m.name); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, store.RemoveMember(m.name))
		}
	}()
	lock, _, err := shim.Lock(store.MemberDir(m.name))
	if err != nil {
		return nil, err
	}
	if m.shim, err = shim.SpawnMember(ctx, d.opts.Binary, store.MemberDir(m.name), lock, boot); err != nil {
		return nil, err
	}
	d.waits.Go(func() {
		m.shim.Wait()
		if id := m.became.Load(); id != nil {
			d.reap(*id)
			return
		}
		p.Remove(m)
		if err := store.RemoveMember(m.name); err != nil {
			d.log.Warn("remove member of the warm pool", "error", err)
		}
	})
	return m, nil
}

// fits says whether a member can become the sandbox that a completed spec asks
// for. What a command is started with, the host name, and when the sandbox ends,
// can be given to a guest that runs; whatever else a spec says, known here or not, it cannot.
func (w *warm) fits(spec *providerv1.SandboxSpec) bool {
	rest, _ := proto.Clone(spec).(*providerv1.SandboxSpec)
	rest.Env, rest.Workdir, rest.User, rest.Hostname, rest.Lifetime = nil, "", "", "", nil
	if rest.GetImage().GetHost() != nil {
		rest.Image = nil
	}
	// This provider knows one network policy only, which is to have no network.
	rest.Egress = nil
	return proto.Equal(rest, w.spec)
}

// adopt makes a member of the pool the sandbox that is asked for. If it cannot,
// nothing has happened. The caller holds the sandbox's lock.
func (d *Driver) adopt(ctx context.Context, m makeRequest) (*providerv1.Sandbox, bool) {
	d.mu.RLock()
	w := d.warm
	d.mu.RUnlock()
	if w == nil || m.boot.Checkpoint != "" || !w.fits(m.spec) {
		return nil, false
	}
	defer w.Busy()()
	chosen, ok := w.Take(ctx)
	if !ok {
		return nil, false
	}
	sb, err := d.handOver(ctx, m, chosen)
	if err != nil {
		d.log.WarnContext(ctx, "use a member of the warm pool", "sandbox_id", m.identity.GetSandboxId(), "error", err)
		return nil, false
	}
	return sb, true
}

// handOver gives a member the folder, the name and the record of a sandbox. On
// failure neither the member nor the sandbox is left.
func (d *Driver) handOver(ctx context.Context, m makeRequest, chosen *member) (*providerv1.Sandbox, error) {
	id := m.identity.GetSandboxId()
	if err := m.store.Adopt(chosen.name, m.record()); err != nil {
		chosen.shim.Kill()
		return nil, errors.Join(err, m.store.RemoveMember(chosen.name))
	}
	chosen.became.Store(&id)
	if err := chosen.shim.Adopt(ctx, m.store.SandboxDir(id)); err != nil {
		return nil, errors.Join(err, m.store.RemoveSandbox(id))
	}
	rec, err := m.store.Sandbox(id)
	if err != nil {
		chosen.shim.Kill()
		return nil, errors.Join(fmt.Errorf("read record: %w", err), m.store.RemoveSandbox(id))
	}
	return rec.Sandbox, nil
}

// busy keeps the pool from being filled while something else is started.
func (d *Driver) busy() (done func()) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.warm == nil {
		return func() {}
	}
	return d.warm.Busy()
}

// rewarm replaces the pool if other settings are in force. d.mu is held.
func (d *Driver) rewarm(store *record.Store, set settings) {
	if d.warm != nil && d.warm.settings == set {
		return
	}
	d.warm.end()
	d.warm = d.newWarm(store, set)
}

// end ends a pool, if there is one, and everything in it.
func (w *warm) end() {
	if w != nil {
		w.Close()
	}
}

// Drain implements sdk.Drainer: what nobody will ask for any more ends.
func (d *Driver) Drain(context.Context) error {
	d.mu.Lock()
	w := d.warm
	d.warm = nil
	d.mu.Unlock()
	w.end()
	return nil
}

// sweepMembers ends what a plugin that died left in its pool. They end by
// themselves as well; this is for one that hangs.
func (d *Driver) sweepMembers(ctx context.Context, store *record.Store) {
	names, err := store.MemberNames()
	if err != nil {
		d.log.WarnContext(ctx, "sweep the warm pool", "error", err)
	}
	for _, name := range names {
		if err := shim.Kill(ctx, store.MemberDir(name)); err != nil {
			d.log.InfoContext(ctx, "a member of an earlier warm pool is just ending", "error", err)
			continue
		}
		if err := store.RemoveMember(name); err != nil {
			d.log.WarnContext(ctx, "sweep the warm pool", "error", err)
		}
	}
}

// checkPool tells how full the pool is; nil if there is none.
func (d *Driver) checkPool() *providerv1.ProbeCheck {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.warm == nil {
		return nil
	}
	ready, want := d.warm.Ready()
	return okCheck("warm-pool", strconv.Itoa(ready)+" ready, "+strconv.Itoa(want)+" kept by demand, at most "+strconv.Itoa(d.warm.settings.warmPool))
}
