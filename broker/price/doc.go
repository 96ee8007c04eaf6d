// Package price says what a sandbox costs: a Book is the price book of one
// provider, and Estimate applies it to what one sandbox asks for.
//
// Money is counted in whole numbers: amounts in millionths of a currency's unit,
// rates in billionths per hour, because a thousandth of a CPU at the prices of
// today costs less than a millionth. There is no floating point anywhere, and
// what is not known is nil, never 0.
//
// The package is pure: no I/O, no clock, no goroutine. Values are safe to share
// as long as nobody changes them.
//
//	price := book.Estimate(price.Count(spec, assumed)) // nil: unknown
package price
