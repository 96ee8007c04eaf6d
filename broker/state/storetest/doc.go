// Package storetest is the suite that every state.Store passes. It tests the
// contract of the interface, by examples and against a model.
//
//	func TestStore(t *testing.T) { storetest.Run(t, open) }
package storetest
