// Package pgurl knows the form of the URL of a PostgreSQL database, and where
// passwords are in it. It links no driver, so that whoever only reads a
// configuration does not either.
package pgurl

import (
	"errors"
	"net/url"
	"strings"
)

// errURL quotes nothing: where a password stands in what is no URL, nobody knows.
var errURL = errors.New("the URL of PostgreSQL cannot be read: want postgres://user@host:port/database, " +
	"with special characters in user and password percent-encoded")

// Check reports what is wrong with the form of a URL. The error does not quote it,
// because it may hold a password.
func Check(s string) error {
	if u, err := url.Parse(s); err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return errURL
	}
	return nil
}

// HasPassword reports whether a URL that Check takes holds a password.
func HasPassword(s string) bool { return len(passwords(s)) > 0 }

func passwords(s string) []string {
	u, err := url.Parse(s)
	if err != nil {
		return nil
	}
	var out []string
	if p, ok := u.User.Password(); ok {
		out = append(out, p)
	}
	for _, name := range []string{"password", "sslpassword"} {
		if u.Query().Has(name) {
			out = append(out, u.Query().Get(name))
		}
	}
	return out
}

// Hide returns a text about a URL that Check takes without the passwords in that.
func Hide(s, text string) string {
	for _, p := range passwords(s) {
		if p != "" {
			text = strings.ReplaceAll(strings.ReplaceAll(text, p, "…"), url.QueryEscape(p), "…")
		}
	}
	return text
}
