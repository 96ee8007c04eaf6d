package pgurl_test

import (
	"strings"
	"testing"

	"github.com/sandbar-dev/sandbar/broker/state/postgres/pgurl"
)

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		url                string
		sound, hasPassword bool
	}{
		{"postgres://sandbar@db/sandbar", true, false},
		{"postgresql:///sandbar?host=/run/postgresql", true, false},
		{"postgres://sandbar:secret@db/sandbar", true, true},
		{"postgres://sandbar:@db/sandbar", true, true},
		{"postgres://sandbar@db/sandbar?password=secret", true, true},
		{"postgres://sandbar@db/sandbar?sslpassword=secret", true, true},
		{"mysql://sandbar:secret@db/sandbar", false, true},
		{"host=db password=secret", false, false},
		{"postgres://sandbar:sec%ret@db", false, false},
		{"", false, false},
	} {
		err := pgurl.Check(tc.url)
		if (err == nil) != tc.sound {
			t.Errorf("%q: %v, want it to be sound: %t", tc.url, err, tc.sound)
		}
		if err != nil && strings.Contains(err.Error(), "sec") {
			t.Errorf("%q: the error tells the password: %v", tc.url, err)
		}
		if got := pgurl.HasPassword(tc.url); got != tc.hasPassword {
			t.Errorf("%q has a password: %t, want %t", tc.url, got, tc.hasPassword)
		}
	}
}

func TestHide(t *testing.T) {
	const url = "postgres://sandbar:p%40ss@db/sandbar?sslpassword=key&password="
	const text = "p@ss, p%40ss and key are not told, db is"
	if got, want := pgurl.Hide(url, text), "…, … and … are not told, db is"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
