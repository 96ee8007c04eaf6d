// Package sqlite keeps the broker's state in one SQLite file.
//
// Writes go through one connection, in immediate transactions, so that they
// queue in this process instead of failing with SQLITE_BUSY; reads use their own
// connections and never wait for a writer (WAL). A commit is on disk before a
// method returns: the row of a sandbox must outlive a power cut, because the
// reaper deletes vendor objects that have none.
package sqlite
