// Package execio carries the streams of one exec between the broker and this
// process, and does not lose or invent a byte when the connection breaks.
//
// An attachment that ends without Done was lost; it is opened again at the
// offsets that were reached, with stdin that was not taken over sent again. The
// command's exit status is returned only from Done, so a broken connection can
// never look like success. Cancelling detaches and never kills.
//
// One call of Attach owns one receiving and one sending goroutine per
// attachment and one reader of stdin; all have ended when it returns, if the
// reader given as Stdin ends its Read on CloseStdin.
package execio
