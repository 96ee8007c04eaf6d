package vercel

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/netip"
	"slices"
)

// policyBody is a network policy as it is sent: a mode, or what is allowed [S].
type policyBody struct {
	Mode    string          `json:"mode"`
	Allow   json.RawMessage `json:"allow"`
	Subnets *struct {
		Allow []string `json:"allow"`
		Deny  []string `json:"deny"`
	} `json:"subnets"`
}

// policyRule is a rule of one domain.
type policyRule struct {
	Match     json.RawMessage `json:"match"`
	Transform []struct {
		Headers map[string]string `json:"headers"`
	} `json:"transform"`
	ForwardURL string `json:"forwardURL"`
}

// domains are the allowed ones, with the rules of each.
func (b policyBody) domains() (map[string][]policyRule, error) {
	if len(b.Allow) == 0 {
		return nil, nil
	}
	var list []string
	if json.Unmarshal(b.Allow, &list) == nil {
		out := map[string][]policyRule{}
		for _, domain := range list {
			out[domain] = nil
		}
		return out, nil
	}
	var out map[string][]policyRule
	err := json.Unmarshal(b.Allow, &out)
	return out, err
}

// checkPolicy refuses what validators.ts would [S].
func checkPolicy(text json.RawMessage) error {
	var b policyBody
	if err := json.Unmarshal(text, &b); err != nil {
		return badRequest("Invalid request: `networkPolicy` is invalid")
	}
	switch b.Mode {
	case "allow-all", "deny-all":
		return nil
	case "":
	default:
		return badRequest("Invalid request: `networkPolicy.mode` should be allow-all or deny-all")
	}
	domains, err := b.domains()
	if err != nil {
		return badRequest("Invalid request: `networkPolicy.allow` should be a list of domains or rules by domain")
	}
	for _, rules := range domains {
		for _, rule := range rules {
			if (rule.Transform == nil) == (rule.ForwardURL == "") {
				return badRequest("Invalid request: a rule has either transform or forwardURL")
			}
		}
	}
	if b.Subnets != nil {
		for _, cidr := range slices.Concat(b.Subnets.Allow, b.Subnets.Deny) {
			if _, err := netip.ParsePrefix(cidr); err != nil {
				return badRequest("Invalid request: subnet " + cidr + " is invalid")
			}
		}
	}
	return nil
}

// denies reports whether a policy is the one that is enforced.
func denies(text json.RawMessage) bool {
	var b policyBody
	return json.Unmarshal(text, &b) == nil && b.Mode == "deny-all"
}

// shownPolicy is a policy as answers have it, which is another shape: values of
// headers never come back [S].
func shownPolicy(text json.RawMessage) any {
	var b policyBody
	if text == nil || json.Unmarshal(text, &b) != nil {
		return nil
	}
	if b.Mode != "" {
		return map[string]any{"mode": b.Mode}
	}
	domains, _ := b.domains() // it was checked
	out := map[string]any{"mode": "custom", "allowedDomains": slices.Sorted(maps.Keys(domains))}
	var injected, forwarded []any
	for _, domain := range slices.Sorted(maps.Keys(domains)) {
		for _, rule := range domains[domain] {
			shown := map[string]any{"domain": domain}
			if rule.Match != nil {
				shown["match"] = rule.Match
			}
			if rule.ForwardURL != "" {
				shown["forwardURL"] = rule.ForwardURL
				forwarded = append(forwarded, shown)
				continue
			}
			var names []string
			for _, t := range rule.Transform {
				names = append(names, slices.Collect(maps.Keys(t.Headers))...)
			}
			slices.Sort(names)
			shown["headerNames"] = names
			injected = append(injected, shown)
		}
	}
	if injected != nil {
		out["injectionRules"] = injected
	}
	if forwarded != nil {
		out["forwardRules"] = forwarded
	}
	if b.Subnets != nil && b.Subnets.Allow != nil {
		out["allowedCIDRs"] = b.Subnets.Allow
	}
	if b.Subnets != nil && b.Subnets.Deny != nil {
		out["deniedCIDRs"] = b.Subnets.Deny
	}
	return out
}

// setPolicy replaces the policy of a session; the body is the policy itself [S].
func (s *Simulator) setPolicy(w http.ResponseWriter, r *http.Request, sn *session) error {
	var text json.RawMessage
	if err := read(r, &text); err != nil {
		return err
	}
	if err := checkPolicy(text); err != nil {
		return err
	}
	if _, err := s.alive(sn); err != nil {
		return err
	}
	s.mu.Lock()
	sn.sandbox.policy = text
	body := map[string]any{"session": sn.wire()}
	s.mu.Unlock()
	if !denies(text) {
		w.Header().Set("X-Simulator-Network", "closed")
	}
	answer(w, http.StatusOK, body)
	return nil
}
