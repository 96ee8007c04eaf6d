// Package postgres keeps the broker's state in a PostgreSQL database, of version
// 14 or newer, that several brokers may share.
//
// The database is told by a URL, as libpq has it; what it leaves out comes from
// libpq's own variables and files, PGPASSFILE among them.
//
// A commit is on the server's disk before a method returns, also where the server
// was told to answer sooner: the row of a sandbox must outlive a power cut,
// because the reaper deletes vendor objects that have none.
//
// Statements are prepared, and settings belong to a connection, so a pooler
// between broker and server must give each connection to one client at a time.
package postgres
