// Package pgtest gives tests a real PostgreSQL server: that of the machine's own
// packages, started in a temporary folder on a Unix socket, as an ordinary user
// where the test is root's, and ended with the test binary, however that ends.
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Main{M: m}) }
//
//	func TestIt(t *testing.T) { store, err := postgres.Open(t.Context(), pgtest.URL(t), postgres.Options{}) … }
//
// Where the machine has no PostgreSQL, URL skips the test and says so.
package pgtest
