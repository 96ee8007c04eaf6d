package server

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/sandbar-dev/sandbar/broker/config"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/broker/state/postgres"
	"github.com/sandbar-dev/sandbar/broker/state/sqlite"
)

// openStore opens the database that the configuration names.
func (s *server) openStore(ctx context.Context) (state.Store, error) {
	db := s.opts.Config.Database
	if db.URL == "" {
		return sqlite.Open(ctx, filepath.Join(s.opts.StateDir, "state.db"))
	}
	opts := postgres.Options{Shared: db.Shared, Lost: func(err error) { s.lost <- err }, Log: s.opts.Log}
	if db.Password != (config.Secret{}) {
		password, err := db.Password.Value(s.opts.LookupEnv)
		if err != nil {
			return nil, fmt.Errorf("database.password: %w", err)
		}
		opts.Password = string(password)
	}
	return postgres.Open(ctx, db.URL, opts)
}
