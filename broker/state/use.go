package state

import (
	"context"
	"time"

	"github.com/sandbar-dev/sandbar/broker/metering"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// Used is what was used on one day, and how it was priced.
type Used struct {
	Tenant, Provider string
	// SandboxID and Name are empty unless it was asked by sandbox.
	SandboxID, Name string
	// Currency is empty if the price is unknown.
	Currency string
	Basis    brokerv1.PriceBasis
	metering.Piece
}

// UseFilter chooses use.
type UseFilter struct {
	// Tenant is a name, or empty for all.
	Tenant string
	// Provider is a name, or empty for all.
	Provider string
	// First and Last are both included.
	First, Last metering.Day
	// BySandbox keeps sandboxes apart; what the store does not know by sandbox any
	// more is missing then.
	BySandbox bool
}

// Uses keeps what sandboxes used. It is stored with the change of state that ended
// it, by UpdateSandbox.
type Uses interface {
	// Used returns what was used, stored or not: that of sandboxes that live is
	// counted until at. All of it is as of one moment. Several may be alike but for
	// the use itself, and add up.
	Used(ctx context.Context, f UseFilter, at time.Time) ([]Used, error)
	// PurgeUsed forgets which sandbox it was that used what was used before a day.
	PurgeUsed(ctx context.Context, before metering.Day) error
}
