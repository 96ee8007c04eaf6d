package lifecycle_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// The model: a client that wants one sandbox and repeats its request, a broker
// whose memory is its journal, and vendors whose network loses, delays and
// repeats requests and answers. The broker's decisions are those of package
// lifecycle; what the model adds is when they are asked for and what an
// adversary makes of the calls that follow.

// rules are what the promise needs. Each can be broken, to see that the model
// notices.
type rules struct {
	// fenced: a vendor makes nothing with a key that it denied.
	fenced bool
	// failsOverLost: the broker goes to another vendor without proof.
	failsOverLost bool
	// forgets: the broker writes its row after the call instead of before.
	forgets bool
}

// vendor is the truth about one provider.
type vendor struct {
	objects map[string]bool // by key
	made    map[string]int  // how often, by key
	denied  map[string]bool
}

func (v *vendor) create(key string, r rules) {
	if r.fenced && v.denied[key] || v.made[key] > 0 {
		return
	}
	v.made[key]++
	v.objects[key] = true
}

// settle answers a question by key.
func (v *vendor) settle(key string) lifecycle.Event {
	if v.objects[key] {
		return lifecycle.Observed(providerv1.SandboxState_SANDBOX_STATE_RUNNING, "")
	}
	v.denied[key] = true
	return lifecycle.Absent("")
}

// request is a call on its way to a vendor, or one that was repeated there.
type request struct {
	vendor  int
	key     string
	deletes bool
}

// row is one line of the journal.
type row struct {
	vendor int
	key    string
	status lifecycle.Status
}

type model struct {
	rules   rules
	vendors [2]*vendor
	// late are requests that a network may still deliver.
	late []request
	// journal is what survives a crash: rows by key, and the row of the client's
	// request.
	journal map[string]*row
	current string
	keys    int
	// wanted: the client has not asked to delete.
	wanted bool
	// calls counts, per step, so that a step ends.
	calls int
}

func newModel(r rules) *model {
	m := &model{rules: r, journal: map[string]*row{}, wanted: true}
	for i := range m.vendors {
		m.vendors[i] = &vendor{objects: map[string]bool{}, made: map[string]int{}, denied: map[string]bool{}}
	}
	return m
}

// fate is what becomes of one call.
type fate string

var fates = []fate{"answered", "refused", "request lost", "answer lost", "late", "late and again", "crash before", "crash after"}

// crash ends a broker in the middle of a step.
type crash struct{}

// create sends the request of a row and says what the broker hears of it.
func (m *model) create(at int, key string, f fate) lifecycle.Event {
	v := m.vendors[at]
	switch f {
	case "refused":
		return lifecycle.Refused("no room", true)
	case "request lost":
		return lifecycle.Lost("cut")
	case "late", "late and again":
		m.late = append(m.late, request{vendor: at, key: key})
		if f == "late and again" {
			m.late = append(m.late, request{vendor: at, key: key})
		}
		return lifecycle.Lost("cut")
	case "crash before":
		panic(crash{})
	}
	v.create(key, m.rules)
	switch f {
	case "answer lost":
		return lifecycle.Lost("cut")
	case "crash after":
		panic(crash{})
	}
	if !v.objects[key] {
		return lifecycle.Refused("the key is used up", true)
	}
	return lifecycle.Observed(providerv1.SandboxState_SANDBOX_STATE_RUNNING, "")
}

// remove sends a delete.
func (m *model) remove(r *row, f fate) lifecycle.Event {
	switch f {
	case "refused":
		return lifecycle.Refused("busy", false)
	case "request lost":
		return lifecycle.Lost("cut")
	case "late", "late and again":
		m.late = append(m.late, request{vendor: r.vendor, key: r.key, deletes: true})
		return lifecycle.Lost("cut")
	case "crash before":
		panic(crash{})
	}
	delete(m.vendors[r.vendor].objects, r.key)
	switch f {
	case "answer lost":
		return lifecycle.Lost("cut")
	case "crash after":
		panic(crash{})
	}
	return lifecycle.Removed("")
}

// ask asks about a row, as the broker does: by key while it is not known whether
// it was made, by id after that.
func (m *model) ask(r *row, f fate) lifecycle.Event {
	switch f {
	case "answered", "refused":
		if r.status.Undecided() {
			return m.vendors[r.vendor].settle(r.key)
		}
		if m.vendors[r.vendor].objects[r.key] {
			return lifecycle.Observed(providerv1.SandboxState_SANDBOX_STATE_RUNNING, "")
		}
		return lifecycle.Absent("")
	case "crash before":
		panic(crash{})
	case "crash after":
		m.vendors[r.vendor].settle(r.key) // the vendor has said it; nobody heard
		panic(crash{})
	default:
		return lifecycle.Unreachable("down")
	}
}

// apply stores what an event makes of a row and carries out what follows.
func (m *model) apply(r *row, ev lifecycle.Event, draw func() fate) {
	next, actions, err := lifecycle.Step(r.status, ev)
	if err != nil {
		return
	}
	r.status = next
	if next.Gone {
		delete(m.journal, r.key)
		if m.current == r.key {
			m.current = ""
		}
	}
	if m.calls++; m.calls > 20 {
		return // the rest is for another time, as with a back-off
	}
	switch {
	case slices.Contains(actions, lifecycle.CallDelete):
		m.apply(r, m.remove(r, draw()), draw)
	case slices.Contains(actions, lifecycle.Ask) && next.Pending == lifecycle.Delete:
		m.apply(r, m.ask(r, draw()), draw)
	}
}

// tryCreate is the client's request, or its repetition: it gets the row that is
// there, or a new one; the next vendor where the first proves that it made
// nothing.
func (m *model) tryCreate(draw func() fate) {
	if !m.wanted {
		return
	}
	if r := m.journal[m.current]; r != nil {
		if r.status.Pending == lifecycle.Create {
			m.apply(r, m.ask(r, draw()), draw)
		}
		if m.current != "" {
			return
		}
	}
	for at := range m.vendors {
		m.keys++
		r := &row{vendor: at, key: fmt.Sprint("k", m.keys), status: lifecycle.New()}
		if !m.rules.forgets {
			m.journal[r.key], m.current = r, r.key
		}
		ev := m.create(at, r.key, draw())
		m.journal[r.key], m.current = r, r.key
		m.apply(r, ev, draw)
		if m.current == "" || m.rules.failsOverLost && r.status.State == providerv1.SandboxState_SANDBOX_STATE_UNKNOWN {
			continue
		}
		return
	}
}

// tend is the reconciler's look at one row.
func (m *model) tend(key string, draw func() fate) {
	r := m.journal[key]
	switch {
	case r == nil:
	case r.status.Pending == lifecycle.Delete:
		m.apply(r, m.remove(r, draw()), draw)
	default:
		m.apply(r, m.ask(r, draw()), draw)
	}
}

func (m *model) askDelete(draw func() fate) {
	m.wanted = false
	if r := m.journal[m.current]; r != nil {
		m.apply(r, lifecycle.AskDelete(""), draw)
	}
}

// deliver lets a late request arrive, after anything that happened meanwhile.
func (m *model) deliver(i int) {
	req := m.late[i]
	m.late = slices.Delete(m.late, i, i+1)
	if req.deletes {
		delete(m.vendors[req.vendor].objects, req.key)
		return
	}
	m.vendors[req.vendor].create(req.key, m.rules)
}

// step runs one step; a crash in it ends it, and the journal is all that is left.
func (m *model) step(run func()) {
	m.calls = 0
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(crash); !ok {
				panic(r)
			}
		}
	}()
	run()
}

func (m *model) live() (n int) {
	for _, v := range m.vendors {
		n += len(v.objects)
	}
	return n
}

// settle lets the vendors be well until nothing is under way, and says what is
// wrong then.
func (m *model) settle() string {
	well := func() fate { return "answered" }
	for range 4 {
		for len(m.late) > 0 {
			m.deliver(0)
		}
		for _, key := range slices.Sorted(maps.Keys(m.journal)) {
			if !m.journal[key].status.Settled() {
				m.step(func() { m.tend(key, well) })
			}
		}
	}
	rows := 0
	for key, r := range m.journal {
		switch {
		case !r.status.Settled():
			return fmt.Sprintf("row %s is not settled: %s", key, show(r.status))
		case r.status.State != providerv1.SandboxState_SANDBOX_STATE_RUNNING:
		case !m.vendors[r.vendor].objects[key]:
			return fmt.Sprintf("row %s is %s and the vendor has nothing", key, show(r.status))
		default:
			rows++
		}
	}
	if m.live() != rows {
		return fmt.Sprintf("the vendors have %d, the broker knows %d: a leak", m.live(), rows)
	}
	return ""
}

// play lets an adversary have its way, and returns what broke.
func play(t *rapid.T, r rules) string {
	m := newModel(r)
	draw := func() fate { return rapid.SampledFrom(fates).Draw(t, "fate") }
	for range rapid.IntRange(1, 30).Draw(t, "steps") {
		switch what := rapid.SampledFrom([]string{"create", "create", "tend", "tend", "deliver", "delete"}).Draw(t, "what"); {
		case what == "create":
			m.step(func() { m.tryCreate(draw) })
		case what == "tend" && len(m.journal) > 0:
			key := rapid.SampledFrom(slices.Sorted(maps.Keys(m.journal))).Draw(t, "row")
			m.step(func() { m.tend(key, draw) })
		case what == "deliver" && len(m.late) > 0:
			m.deliver(rapid.IntRange(0, len(m.late)-1).Draw(t, "which"))
		case what == "delete":
			m.step(func() { m.askDelete(draw) })
		}
		if n := m.live(); n > 1 {
			return fmt.Sprintf("%d live objects for one request", n)
		}
		for _, v := range m.vendors {
			for key, n := range v.made {
				if n > 1 {
					return fmt.Sprintf("%d objects were made for key %s", n, key)
				}
			}
		}
	}
	if broken := m.settle(); broken != "" {
		return broken
	}
	if m.wanted { // the client's repetition gets one, and the same one ever after
		m.step(func() { m.tryCreate(func() fate { return "answered" }) })
		first := m.current
		m.step(func() { m.tryCreate(func() fate { return "answered" }) })
		if m.current != first || m.live() != 1 {
			return fmt.Sprintf("the repetition got %q after %q, and %d live", m.current, first, m.live())
		}
	}
	return m.settle()
}

// TestOneObjectPerRequest: whatever is lost, late, repeated or killed, there are
// never two, and none is left that the broker does not know.
func TestOneObjectPerRequest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if broken := play(t, rules{fenced: true}); broken != "" {
			t.Fatal(broken)
		}
	})
}

// TestEachRuleIsNeeded: without any one of the rules, the adversary wins.
func TestEachRuleIsNeeded(t *testing.T) {
	for name, r := range map[string]rules{
		"vendors that do not fence":    {},
		"fail-over without proof":      {fenced: true, failsOverLost: true},
		"a row written after the call": {fenced: true, forgets: true},
	} {
		t.Run(name, func(t *testing.T) {
			won := false
			for seed := 0; seed < 5000 && !won; seed++ {
				won = rapid.Custom(func(t *rapid.T) string { return play(t, r) }).Example(seed) != ""
			}
			if !won {
				t.Error("the model does not notice")
			}
		})
	}
}
