// Package observation is empty: its tests run the real binaries and read what
// they tell of themselves, metrics and traces, as those who operate them would.
package observation
