package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
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

// mostMessage bounds what is kept of a vendor's message.
const mostMessage = 300

// newError is an answer that is no success; code and message may be empty.
func newError(status int, header http.Header, code, message string) *Error {
	if code == "" {
		code = "http_" + strconv.Itoa(status)
	}
	if message == "" {
		message = http.StatusText(status)
	}
	if len(message) > mostMessage {
		message = message[:mostMessage] + "…"
	}
	return &Error{Status: status, Code: code, Message: strings.ToValidUTF8(message, ""), RetryAfter: retryAfter(header)}
}

// Undocumented is an answer that cannot be understood; message says why.
func Undocumented(status int, message string) *Error {
	return &Error{Status: status, Code: codeProtocol, Message: message}
}

// retryAfter reads the header, of which HTTP allows seconds and a date.
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
