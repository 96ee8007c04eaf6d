// Package execio connects the streams of one exec to those of this process. The
// framing, and what makes it survive lost connections, is package session; this
// package adds where input comes from, when to stop showing output, and who is
// told that the connection was lost.
//
// One call of Attach owns a reader of stdin and a follower of the terminal's
// size; both have ended when it returns, if the reader given as Stdin ends its
// Read on CloseStdin.
package execio
