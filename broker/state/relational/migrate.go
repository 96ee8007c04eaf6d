package relational

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

// Migrate brings the schema of a database up to the newest of the migrations. A
// schema that is newer than all of them is an error: only the program that made
// it knows what it means.
func Migrate(ctx context.Context, dialect goose.Dialect, db *sql.DB, migrations fs.FS, opts ...goose.ProviderOption) error {
	p, err := goose.NewProvider(dialect, db, migrations, opts...)
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return err
	}
	has, err := p.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	sources := p.ListSources()
	if newest := sources[len(sources)-1].Version; has > newest {
		return fmt.Errorf("the schema is version %d and this program knows up to %d: run one as new as the schema", has, newest)
	}
	return nil
}
