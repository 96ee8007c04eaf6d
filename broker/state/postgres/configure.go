package postgres

import (
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sandbar-dev/sandbar/broker/state/postgres/pgurl"
)

func configure(url string, opts Options) (*pgx.ConnConfig, error) {
	if err := pgurl.Check(url); err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the URL of PostgreSQL has a parameter that cannot be: " + sound(url, err))
	}
	if opts.Password != "" {
		config.Password = opts.Password
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	for name, value := range settings {
		if _, given := config.RuntimeParams[name]; !given {
			config.RuntimeParams[name] = value
		}
	}
	return config, nil
}

// sound is what the library says about a URL that pgurl.Check takes, without what
// it may not repeat.
func sound(s string, err error) string {
	text := "it says no more"
	var e *pgconn.ParseConfigError
	if errors.As(err, &e) && e.Unwrap() != nil {
		text = e.Unwrap().Error()
	}
	return pgurl.Hide(s, text)
}
