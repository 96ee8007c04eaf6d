package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// codeProtocol marks an answer that is not as documented.
const codeProtocol = "sandbar_undocumented_answer"

// Error is an answer that is no success.
type Error struct {
	// Status is of HTTP.
	Status int
	// Code and Message are the vendor's; Message is cut where it is long.
	Code, Message string
	// RetryAfter is how long to wait, where the vendor said so.
	RetryAfter time.Duration
	// InvalidToken says that it is the token which is refused, and not its rights.
	InvalidToken bool
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("the vendor answered %d %s: %s", e.Status, e.Code, e.Message)
}

// Undocumented reports an answer that cannot be understood.
func (e *Error) Undocumented() bool { return e.Code == codeProtocol }

// LostError is a call without an answer.
type LostError struct {
	// Sent is false only if the request cannot have reached the vendor.
	Sent bool
	Err  error
}

// Error implements error.
func (e *LostError) Error() string { return "no answer came: " + e.Err.Error() }

// Unwrap returns the cause, among them the end of the context.
func (e *LostError) Unwrap() error { return e.Err }

// Is reports whether err is an *Error of one of the statuses.
func Is(err error, statuses ...int) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	for _, s := range statuses {
		if e.Status == s {
			return true
		}
	}
	return false
}

// unwrapURL leaves out the address, which an operator knows and a user need not.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// refusal reads an answer that is no success, and closes it.
func refusal(resp *http.Response) error {
	defer func() { _ = resp.Body.Close() }() // it was only read
	const mostRead, mostKept = 64 << 10, 300
	text, err := io.ReadAll(io.LimitReader(resp.Body, mostRead))
	if err != nil && resp.StatusCode < http.StatusInternalServerError {
		text = nil // the status alone says enough
	}
	var body struct {
		Error struct {
			Code         string `json:"code"`
			Message      string `json:"message"`
			InvalidToken bool   `json:"invalidToken"`
		} `json:"error"`
	}
	e := &Error{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header)}
	if json.Unmarshal(text, &body) == nil && body.Error.Code != "" {
		e.Code, e.Message, e.InvalidToken = body.Error.Code, body.Error.Message, body.Error.InvalidToken
	} else {
		e.Code, e.Message = "http_"+strconv.Itoa(resp.StatusCode), http.StatusText(resp.StatusCode)
	}
	if len(e.Message) > mostKept {
		e.Message = strings.ToValidUTF8(e.Message[:mostKept], "") + "…"
	}
	if !utf8.ValidString(e.Message) {
		e.Message = strings.ToValidUTF8(e.Message, "?")
	}
	return e
}

// retryAfter reads the header as the vendor's own client does: seconds. A date, of
// which HTTP would allow one, is read too.
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if text == "" {
		return 0
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil && n >= 0 {
		return time.Duration(n * float64(time.Second))
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}
