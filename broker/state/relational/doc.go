// Package relational is the broker's state in a relational database: every query,
// written once, in the SQL that SQLite and PostgreSQL have in common. What they
// do not have in common is a Dialect; packages sqlite and postgres each have
// one, beside how they open, tune and migrate their database.
//
// A query marks its arguments with ?, or with ?1, ?2 where one is used more than
// once; the dialect makes of that what its database reads. Truth values are kept
// as 0 and 1, times as nanoseconds since 1970, messages as their bytes. A unique
// index whose refusal a caller is told of is named <table>_<column> where the
// database tells indexes by name.
//
// Each change is one transaction that holds whatever else runs at the same time,
// in this process or in another: no query relies on what an earlier one of the
// same transaction read, unless it locked it.
package relational
