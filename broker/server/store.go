package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/sandbar-dev/sandbar/broker/config"
	"github.com/sandbar-dev/sandbar/broker/seal"
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

// sealingKeyFile is the name of the key in the state folder.
const sealingKeyFile = "sealing.key"

// sealingKeys returns what secrets in the database are sealed with; nil: with
// nothing. A database in the state folder has its key beside it, where nobody else
// needs it; brokers of another one may be on other machines, and are told theirs.
func (s *server) sealingKeys() (*seal.Keys, error) {
	conf, file := s.opts.Config.Sealing, filepath.Join(s.opts.StateDir, sealingKeyFile)
	if conf.Key == (config.Secret{}) {
		if s.opts.Store != nil || s.opts.Config.Database.URL != "" {
			return nil, nil
		}
		key, err := seal.KeyFile(file)
		if err != nil {
			return nil, err
		}
		return seal.New(key)
	}
	newest, err := s.sealingKey("sealing.key", conf.Key)
	if err != nil {
		return nil, err
	}
	var before [][]byte
	if conf.PreviousKey != (config.Secret{}) {
		previous, err := s.sealingKey("sealing.previous_key", conf.PreviousKey)
		if err != nil {
			return nil, err
		}
		before = append(before, previous)
	}
	// The key from before there was one in the configuration.
	own, err := seal.ReadKeyFile(file)
	switch {
	case err == nil:
		before = append(before, own)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return seal.New(newest, before...)
}

func (s *server) sealingKey(field string, from config.Secret) ([]byte, error) {
	text, err := from.Value(s.opts.LookupEnv)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	key, err := seal.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s %w", field, err)
	}
	return key, nil
}
