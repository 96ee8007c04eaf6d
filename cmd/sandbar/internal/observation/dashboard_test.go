package observation_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to lose a row

	"github.com/sandbar-dev/sandbar/broker/telemetry"
)

// dashboard is the file that Grafana imports.
const dashboard = "../../../../docs/grafana/sandbar.json"

type dashboardOf struct {
	UID, Title    string
	SchemaVersion int `json:"schemaVersion"`
	Templating    struct {
		List []struct{ Name, Type, Definition string }
	}
	Panels []panel
}

type panel struct {
	ID          int
	Type, Title string
	GridPos     struct{ H, W, X, Y int } `json:"gridPos"`
	Datasource  *struct{ Type, UID string }
	Targets     []struct {
		Expr       string
		Datasource *struct{ Type, UID string }
	}
}

// TestDashboard: each query of the dashboard names metrics and labels that a broker
// has after everything has happened, and each metric is in it.
func TestDashboard(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(dashboard)
	if err != nil {
		t.Fatal(err)
	}
	var d dashboardOf
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	s := busyBroker(t)
	shown := map[string]bool{}
	queries := 0
	check := func(where, expr string) {
		queries++
		q, err := parseQuery(expr)
		if err != nil {
			t.Errorf("%s: %v", where, err)
		}
		for _, wrong := range q.wrong(s.families) {
			t.Errorf("%s: %s: %s", where, wrong, expr)
		}
		for _, sel := range q.selectors {
			shown[strings.TrimSuffix(sel.metric, "_bucket")] = true
		}
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			check("panel "+p.Title, target.Expr)
			if target.Datasource == nil || target.Datasource.UID != "${datasource}" {
				t.Errorf("panel %s asks %+v", p.Title, target.Datasource)
			}
		}
		if (len(p.Targets) == 0) != (p.Type == "row") {
			t.Errorf("panel %s, a %s, has %d queries", p.Title, p.Type, len(p.Targets))
		}
	}
	for _, v := range d.Templating.List {
		if inner, ok := strings.CutPrefix(v.Definition, "label_values("); ok {
			metric, label, _ := strings.Cut(strings.TrimSuffix(inner, ")"), ", ")
			check("variable "+v.Name, "count by ("+label+") ("+metric+")")
		} else if v.Type != "datasource" {
			t.Errorf("variable %s is %+v", v.Name, v)
		}
	}
	if queries < 30 {
		t.Errorf("only %d queries were looked at", queries)
	}
	for _, def := range telemetry.Definitions() {
		if !shown[def.Prometheus()] {
			t.Errorf("%s is in no panel", def.Prometheus())
		}
	}
	d.laidOut(t)
}

// laidOut: what Grafana wants of the file beside the queries.
func (d dashboardOf) laidOut(t *testing.T) {
	t.Helper()
	if d.UID == "" || d.Title == "" || d.SchemaVersion < 30 {
		t.Errorf("it is %q %q of schema %d", d.UID, d.Title, d.SchemaVersion)
	}
	ids := map[int]bool{}
	for i, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 || p.Title == "" {
			t.Errorf("panel %d has id %d and title %q", i, p.ID, p.Title)
		}
		ids[p.ID] = true
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X+g.W > 24 {
			t.Errorf("panel %s does not fit: %+v", p.Title, g)
		}
		overlaps := slices.IndexFunc(d.Panels[:i], func(o panel) bool {
			b := o.GridPos
			return g.X < b.X+b.W && b.X < g.X+g.W && g.Y < b.Y+b.H && b.Y < g.Y+g.H
		})
		if overlaps >= 0 {
			t.Errorf("panels %s and %s overlap", p.Title, d.Panels[overlaps].Title)
		}
	}
}

// busyBroker returns the metrics of a broker in which everything has happened that
// is counted.
func busyBroker(t *testing.T) *scraper {
	t.Helper()
	b := serve(t, "telemetry: {prometheus: {listen: \"127.0.0.1:0\"}}\nreaper: {grace: 1s, interval: 1s}\n"+hereAllowed)
	s := newScraper(t, b)
	r := newReceiver(t)
	b.hook(r)
	id := b.ok("create")
	b.ok("exec", id, "--", "true")
	b.ok("pause", id)
	b.ok("resume", id)
	b.ok("fork", id)
	b.ok("snapshot", "create", id)
	r.await("a message", func(ids []string) bool { return len(ids) > 0 })
	if _, code := b.sandbar("get", "sbx_nosuch"); code == 0 {
		t.Error("a sandbox that does not exist is shown")
	}
	b.lose(b.ok("create"))
	b.await("orphan is deleted")
	// What is counted after it is done may come a moment later.
	for limit := time.Now().Add(patience); ; {
		s.scrape()
		if s.value("sandbar_orphans_deleted_total") > 0 && s.value("sandbar_webhook_attempts_total") > 0 {
			return s
		}
		if time.Now().After(limit) {
			t.Fatal("neither orphans nor webhooks are counted")
		}
	}
}

// lose takes the row of a sandbox away behind the broker's back, so that its object
// at the vendor stands for nothing.
func (b *broker) lose(id string) {
	b.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(b.dir, "st", "state.db")+"?_pragma=busy_timeout(60000)&_pragma=foreign_keys(1)")
	if err != nil {
		b.t.Fatal(err)
	}
	defer db.Close()
	res, err := db.ExecContext(context.Background(), `DELETE FROM sandboxes WHERE id = ?`, id)
	if err != nil {
		b.t.Fatal(err)
	}
	if n, err := res.RowsAffected(); n != 1 || err != nil {
		b.t.Fatalf("%d rows were taken away: %v", n, err)
	}
}
