// Package policy is placement rules as data: who may be put where, and what is
// preferred, in expressions of the Common Expression Language (CEL).
//
// A Rule says which requests it is about and what it does to the candidates. The
// expressions are compiled and type-checked by Compile, so that a mistake is found
// when the configuration is read, and not when a request meets it. Bind decides
// once per request which rules are about it, and hands package placement those.
//
// An expression sees nothing but the request, the caller and the candidate: no
// clock, no I/O, and labels in the order of their keys, so the same question has
// the same answer. How much one evaluation may cost is bounded. A rule that cannot
// be evaluated is no rule that does not apply: it rules the candidate out, and the
// explanation names it.
//
// The package does no I/O. A Set is safe for concurrent use.
//
//	set, problems := policy.Compile(rules)
//	needs = set.Bind(needs, policy.Query{Request: req, Tenant: "bank"})
//	place := placement.Place(needs, candidates, time.Now())
package policy
