package webhook

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// TestAddresses: what is not the public's is not reached, however it is written.
func TestAddresses(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("93.184.215.14"), netip.MustParseAddr("2606:2800:21f::1")}
	for address, want := range map[string]bool{
		"1.1.1.1": true, "8.8.8.8": true, "172.32.0.1": true, "172.15.255.255": true, "100.128.0.1": true, "169.253.0.1": true, "11.0.0.1": true,
		"2606:4700:4700::1111": true, "2a00:1450:4001::1": true,

		"127.0.0.1": false, "127.255.255.254": false, "::1": false, "0.0.0.0": false, "::": false, "0.1.2.3": false,
		"10.0.0.1": false, "10.255.255.255": false, "172.16.0.1": false, "172.31.255.255": false, "192.168.1.1": false,
		"fc00::1": false, "fd12:3456::1": false, "fe80::1": false, "fe80::1%eth0": false, "fec0::1": false,
		"169.254.169.254": false, "fd00:ec2::254": false, "100.100.100.200": false, "168.63.129.16": false, "192.0.0.192": false,
		"100.64.0.1": false, "100.127.255.255": false, "192.0.2.1": false, "198.18.0.1": false, "198.19.255.255": false,
		"198.51.100.1": false, "203.0.113.1": false, "192.88.99.1": false,
		"224.0.0.1": false, "239.255.255.255": false, "240.0.0.1": false, "255.255.255.255": false, "ff02::1": false,
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::ffff:169.254.169.254": false, "::ffff:1.1.1.1": true,
		"::127.0.0.1": false, "64:ff9b::7f00:1": false, "64:ff9b::a9fe:a9fe": false, "64:ff9b:1::1": false, "2002:7f00:1::": false,
		"2001::1": false, "2001:db8::1": false, "100::1": false, "::ffff:0:127.0.0.1": false,
		"93.184.215.14": false, "::ffff:93.184.215.14": false, "2606:2800:21f::1": false, "93.184.215.15": true,
	} {
		if got := (Policy{}).permits(netip.MustParseAddr(address), own); got != want {
			t.Errorf("%s: reached is %t, want %t", address, got, want)
		}
	}
}

func TestAllowedNetworks(t *testing.T) {
	p := Policy{AllowNetworks: prefixes("10.1.0.0/16", "127.0.0.1/32", "fd00:1::/32")}
	for address, want := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "10.2.0.1": false, "127.0.0.1": true, "127.0.0.2": false, "fd00:1::5": true, "fd00:2::5": false,
		"169.254.169.254": false, "1.1.1.1": true,
	} {
		if got := p.permits(netip.MustParseAddr(address), nil); got != want {
			t.Errorf("%s: reached is %t, want %t", address, got, want)
		}
	}
}

// TestConnectionsAreChecked: by the address that is connected to.
func TestConnectionsAreChecked(t *testing.T) {
	for address, want := range map[string]bool{
		"1.1.1.1:443": true, "[2606:4700:4700::1111]:443": true,
		"127.0.0.1:443": false, "[::1]:443": false, "[::ffff:127.0.0.1]:80": false, "[fe80::1%lo]:80": false, "169.254.169.254:80": false,
		"": false, "localhost:443": false, "/run/docker.sock": false,
	} {
		err := Policy{}.control(t.Context(), "tcp", address, nil)
		if (err == nil) != want || err != nil && !errors.Is(err, errForbidden) {
			t.Errorf("%q: %v, want it to be let through: %t", address, err, want)
		}
	}
	own, err := ownAddresses()
	if err != nil || len(own) == 0 {
		t.Fatalf("this machine has the addresses %v, %v", own, err)
	}
	for _, a := range own {
		if (Policy{}).permits(a, own) {
			t.Errorf("%s is this machine's", a)
		}
	}
}

func TestURLs(t *testing.T) {
	for text, wrong := range map[string]string{
		"https://example.com/hook?x=y":             "",
		"https://example.com:8443":                 "",
		"https://1.1.1.1/":                         "",
		"HTTPS://example.com":                      "",
		"https://[2606:4700:4700::1111]/":          "",
		"http://example.com":                       "does not allow http (webhooks.allow_http)",
		"ftp://example.com":                        "want https://",
		"https://me:hush@example.com":              "without a user",
		"https://example.com/#a":                   "without a fragment",
		"https://example.com/#":                    "without a fragment",
		"https://":                                 "want a URL such as",
		"https:example.com":                        "want a URL such as",
		"example.com":                              "want a URL such as",
		"":                                         "want a URL such as",
		"https://exa mple.com":                     "want a URL such as",
		"https://127.0.0.1/":                       "not in the broker's own network",
		"https://[::1]:1/":                         "not in the broker's own network",
		"https://[::ffff:10.0.0.1]/":               "not in the broker's own network",
		"https://169.254.169.254/latest":           "not in the broker's own network",
		"https://a/" + strings.Repeat("x", maxURL): "at most 2048 bytes",
	} {
		if got := (Policy{}).checkURL(text); got != wrong && (wrong == "" || !strings.Contains(got, wrong)) {
			t.Errorf("%q: %q, want %q", text, got, wrong)
		}
	}
	if got := (Policy{AllowHTTP: true}).checkURL("http://example.com"); got != "" {
		t.Errorf("http, where it is allowed: %q", got)
	}
	for text, want := range map[string]string{
		"http://me:hush@h/p?token=hush#hush": "http://…@h/p", "http://h/p": "http://h/p", "me:hush@h": "me:hush@h", "https://a@b@c/": "https://…@c/",
	} {
		if got := shownURL(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}
