// Package telemetry is the vocabulary in which a broker tells how it fares: the
// metrics, with the same names whichever provider it is, and what goes beside
// each line of the log and each span.
//
// It knows the interfaces of OpenTelemetry and no exporter; package export has
// those. What it takes as labels is bounded: names of configured providers and
// words that the contract defines. Ids, names and texts that a user or a vendor
// chose are never labels.
package telemetry
