package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// placementWidth is how wide the tables of a placement get: what a terminal, a
// ticket and a chat show without breaking lines.
const placementWidth = 100

// showPlacement shows the providers in three tables: what became of each and why,
// how the scores came about, and who refused.
func (a *app) showPlacement(p *brokerv1.Placement) error {
	if err := a.section([]string{"PROVIDER", "VERDICT", "WHY"}, verdicts(p)); err != nil {
		return err
	}
	header, rows := scores(p)
	if err := a.section(header, rows); err != nil {
		return err
	}
	var tried [][]string
	for _, t := range p.GetAttempts() {
		tried = append(tried, []string{t.GetProvider(), t.GetReason(), t.GetMessage()})
	}
	return a.section([]string{"REFUSED", "REASON", "MESSAGE"}, tried)
}

// section shows a table below what is there, if it has rows.
func (a *app) section(header []string, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	if err := a.out(""); err != nil {
		return err
	}
	return render.Wrapped(a.stdout, placementWidth, header, rows)
}

// verdicts are the rows about each provider: its verdict, and all reasons.
func verdicts(p *brokerv1.Placement) [][]string {
	var rows [][]string
	choice := 0
	for _, c := range p.GetCandidates() {
		name := c.GetProvider()
		add := func(verdict, why string) {
			rows = append(rows, []string{name, verdict, why})
			name = " " // the first row names it
		}
		for _, o := range c.GetObstacles() {
			add(ruledOut(o.GetRule()), inFlags(o))
		}
		if s := c.GetScore(); s != nil {
			choice++
			add(able(p, name, choice), known(s)+costs(c.GetPrice()))
			for _, by := range c.GetAdjustments() {
				add(" ", by.GetMessage())
			}
		}
	}
	return rows
}

// flagOf has the flag that sets a field of the request. Indexes are left out.
var flagOf = map[string]string{
	"provider": "--provider", "provider_labels": "--provider-label", "lifetime": "--lifetime", "idle.action": "--idle-action",
	"pause_keeps": "--pause-keeps", "snapshot_keeps": "--snapshot-keeps", "fork_keeps": "--fork-keeps",
	"min_egress_strength": "--egress-strength", "max_start_latency": "--max-start-latency",
	"max_price":      "--max-price",
	"spec.image.oci": "--image", "spec.image.template": "--image", "spec.image.host": "--image",
	"spec.resources.cpu_millis": "--cpu", "spec.resources.memory_bytes": "--memory", "spec.resources.disk_bytes": "--disk",
	"spec.resources.pids": "--pids", "spec.resources.gpu": "--gpu", "spec.hostname": "--hostname", "spec.region": "--region",
	"spec.mounts.host_path": "--mount", "spec.mounts.mode": "--mount", "spec.mounts.volume": "--volume",
}

// inFlags is the message of an obstacle with the flag for the field that it is
// about: whoever reads a table knows the command line, and --json has the field.
func inFlags(o *brokerv1.PlacementObstacle) string {
	rest, ok := strings.CutPrefix(o.GetMessage(), o.GetField()+" ")
	path, index, _ := strings.Cut(o.GetField(), "[")
	key, below, _ := strings.Cut(index, "]")
	if path == "spec.mounts" {
		path, key = path+below, ""
	}
	if keeps, what, found := strings.Cut(path, "_keeps."); found {
		path, rest = keeps+"_keeps", strings.Replace(rest, "is set", "wants "+what, 1)
	}
	flag := flagOf[path]
	if !ok || o.GetField() == "" || flag == "" {
		return o.GetMessage()
	}
	if key != "" {
		flag += " " + key
	}
	return flag + " " + rest
}

// able is the verdict on a provider that could be chosen.
func able(p *brokerv1.Placement, name string, choice int) string {
	refused := slices.ContainsFunc(p.GetAttempts(), func(t *brokerv1.PlacementAttempt) bool { return t.GetProvider() == name })
	switch {
	case name == p.GetProvider():
		return "chosen"
	case refused:
		return "refused"
	default:
		return "choice " + strconv.Itoa(choice)
	}
}

// ruledOut says in a few words what an obstacle is about.
func ruledOut(rule brokerv1.PlacementRule) string {
	switch rule {
	case brokerv1.PlacementRule_PLACEMENT_RULE_NOT_NAMED:
		return "not asked for"
	case brokerv1.PlacementRule_PLACEMENT_RULE_WEIGHT_ZERO:
		return "only by name"
	case brokerv1.PlacementRule_PLACEMENT_RULE_LABEL:
		return "wrong label"
	case brokerv1.PlacementRule_PLACEMENT_RULE_REGION:
		return "wrong region"
	case brokerv1.PlacementRule_PLACEMENT_RULE_CAPABILITY_MISSING:
		return "cannot do it"
	case brokerv1.PlacementRule_PLACEMENT_RULE_CAPABILITY_DISABLED:
		return "switched off"
	case brokerv1.PlacementRule_PLACEMENT_RULE_LIMIT:
		return "too much"
	case brokerv1.PlacementRule_PLACEMENT_RULE_VOLUME:
		return "no such volume"
	case brokerv1.PlacementRule_PLACEMENT_RULE_NOT_READY:
		return "not ready"
	case brokerv1.PlacementRule_PLACEMENT_RULE_COOLING_DOWN:
		return "wants a pause"
	case brokerv1.PlacementRule_PLACEMENT_RULE_CIRCUIT_OPEN:
		return "failing"
	case brokerv1.PlacementRule_PLACEMENT_RULE_CIRCUIT_PROBING:
		return "on trial"
	case brokerv1.PlacementRule_PLACEMENT_RULE_POLICY:
		return "against a rule"
	case brokerv1.PlacementRule_PLACEMENT_RULE_POLICY_UNDECIDED:
		return "rule is broken"
	case brokerv1.PlacementRule_PLACEMENT_RULE_START_LATENCY:
		return "too slow"
	case brokerv1.PlacementRule_PLACEMENT_RULE_START_LATENCY_UNKNOWN:
		return "speed unknown"
	case brokerv1.PlacementRule_PLACEMENT_RULE_PRICE:
		return "price"
	default:
		return "ruled out" // by a broker that is newer
	}
}

// scores are the rows about how the scores came about. Where no rule moved one
// there is no column for it.
func scores(p *brokerv1.Placement) (header []string, rows [][]string) {
	preferred := slices.ContainsFunc(p.GetCandidates(), func(c *brokerv1.PlacementCandidate) bool {
		by := c.GetScore().GetPreference()
		return by != 0 && by != 1
	})
	header = []string{"PROVIDER", "SCORE", "= WEIGHT", "x RULES", "x SPEED", "x RELIABILITY", "x SPREAD"}
	for _, c := range p.GetCandidates() {
		if s := c.GetScore(); s != nil {
			rows = append(rows, []string{
				c.GetProvider(), part(s.GetTotal()), part(s.GetWeight()), part(s.GetPreference()), part(s.GetSpeed()), part(s.GetReliability()), part(s.GetSpread()),
			})
		}
	}
	if !preferred {
		const column = 3
		header = slices.Delete(header, column, column+1)
		for i := range rows {
			rows[i] = slices.Delete(rows[i], column, column+1)
		}
	}
	return header, rows
}

func part(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) }

// known says what the parts of a score come from.
func known(s *brokerv1.PlacementScore) string {
	const least = 0.05 // less is as good as forgotten
	latency := s.GetLatency().AsDuration().Round(time.Millisecond).String()
	worked := s.GetSamples() - s.GetFailureRate()*(s.GetSamples()+1) // one that worked is assumed in the rate
	var text string
	switch {
	case s.GetSamples() < least:
		text = "not measured lately, " + latency + " is assumed"
	case worked < least:
		text = "none worked lately, " + latency + " is assumed"
	default:
		text = "starts in " + latency
	}
	if s.GetSamples() >= least && s.GetFailureRate() > 0 {
		text += fmt.Sprintf(", %.0f%% fail", 100*s.GetFailureRate())
	}
	text += ", has " + count(int(s.GetSandboxes()), "sandbox", "sandboxes")
	if s.GetProbing() {
		text += ", on trial after failures"
	}
	return text
}
