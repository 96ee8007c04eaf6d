// Package quota decides whether a tenant may have one more sandbox: by its quotas,
// which bound what it has at once, and its budgets, which bound what it uses in a
// day and a month.
//
// Admit is the one place of that decision. The store asks it inside of the
// transaction that inserts or resumes, with the tenant held, so that two requests
// at the same moment cannot both take the last place.
//
// The package is pure: no I/O, no clock, no goroutine. Values are safe to share.
//
//	createsUntil, err := quota.Admit(tenant, limits, use, demands)
package quota
