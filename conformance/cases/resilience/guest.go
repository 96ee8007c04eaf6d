package resilience

import (
	"strings"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
)

// guest are the cases about what a command finds.
func guest() []engine.Case {
	return []engine.Case{
		{
			ID: "guest/utilities", Title: "The shell and each utility that the contract names is there, and does its simplest thing.",
			Profile: engine.Core, Requirements: []string{"REQ-GUEST-001"}, Cost: 5,
			Run: utilities,
		},
		{
			ID: "guest/devices", Title: "The devices in /dev behave as on Linux, and everybody may write in /tmp.",
			Profile: engine.Core, Requirements: []string{"REQ-GUEST-002"}, Cost: 5,
			Run: devices,
		},
	}
}

// check is a script that succeeds, or does not.
type check struct{ what, script string }

// uses are one for each utility; they run in an empty folder.
var uses = []check{
	{"cat", `printf 'a\nb' | cat > cat1 && [ "$(cat cat1 cat1)" = "$(printf 'a\nba\nb')" ]`},
	{"chmod", `: > chmod1 && chmod 600 chmod1 && [ "$(ls -l chmod1 | head -c 10)" = -rw------- ]`},
	{"cp", `echo c > cp1 && cp cp1 cp2 && [ "$(cat cp2)" = c ]`},
	{"date", `[ "$(date +%s)" -gt 1700000000 ]`},
	{"dd", `[ "$(printf abcdef | dd bs=1 skip=2 count=3 2>/dev/null)" = cde ]`},
	{"echo", `[ "$(echo a b)" = 'a b' ]`},
	{"env", `[ "$(env -i A=b sh -c 'echo $A')" = b ]`},
	{"false", `! false`},
	{"head", `[ "$(printf '1\n2\n3\n' | head -n 2)" = "$(printf '1\n2')" ]`},
	{"id", `[ "$(id -u)" -ge 0 ]`},
	{"kill", `sleep 60 & kill -s TERM $! && { wait $!; [ $? -gt 128 ]; }`},
	{"ln", `echo l > ln1 && ln ln1 ln2 && ln -s ln1 ln3 && [ "$(cat ln2 ln3)" = "$(printf 'l\nl')" ]`},
	{"ls", `mkdir ls1 && : > ls1/a && : > ls1/b && [ "$(ls ls1)" = "$(printf 'a\nb')" ]`},
	{"mkdir", `mkdir -p mk1/mk2 && [ -d mk1/mk2 ]`},
	{"mv", `echo m > mv1 && mv mv1 mv2 && [ ! -e mv1 ] && [ "$(cat mv2)" = m ]`},
	{"od", `[ "$(printf AB | od -An -tx1 | tr -d ' \n')" = 4142 ]`},
	{"printf", `[ "$(printf '%03d|%s' 7 x)" = '007|x' ]`},
	{"pwd", `mkdir pwd1 && cd pwd1 && case "$(pwd)" in */pwd1) ;; *) false ;; esac`},
	{"readlink", `ln -s target rl1 && [ "$(readlink rl1)" = target ]`},
	{"rm", `: > rm1 && mkdir -p rm2/rm3 && rm rm1 && rm -r rm2 && [ ! -e rm1 ] && [ ! -e rm2 ]`},
	{"rmdir", `mkdir rd1 && rmdir rd1 && [ ! -e rd1 ]`},
	{"seq", `[ "$(seq 2 4)" = "$(printf '2\n3\n4')" ]`},
	{"sha256sum", `[ "$(printf abc | sha256sum | head -c 64)" = ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad ]`},
	{"sleep", `sleep 0`},
	{"sort", `[ "$(printf 'b\na\n' | sort)" = "$(printf 'a\nb')" ]`},
	{"stty", `! stty < /dev/null 2>/dev/null`},
	{"tail", `[ "$(printf '1\n2\n3\n' | tail -n 1)" = 3 ]`},
	{"tee", `[ "$(echo t | tee tee1)" = t ] && [ "$(cat tee1)" = t ]`},
	{"test", `test 1 -lt 2 && ! test a = b && test -d .`},
	{"touch", `touch touch1 && [ -f touch1 ]`},
	{"tr", `[ "$(echo abc | tr a-c A-C)" = ABC ]`},
	{"true", `true`},
	{"tty", `! tty < /dev/null > /dev/null`},
	{"uname", `[ -n "$(uname)" ]`},
	{"wc", `[ "$(printf 'a b\nc\n' | wc -l | tr -d ' ')" = 2 ]`},
	{"yes", `[ "$(yes | head -n 2)" = "$(printf 'y\ny')" ]`},
}

func utilities(t *engine.T) {
	box := stage.Create(t)
	box.Run("/bin/sh", "-c", "echo $((6 * 7))").Code(0).Out("42\n")
	for i, u := range uses {
		uses := strings.Contains(u.script, u.what)
		if !uses {
			t.Broken("check %d does not use %s", i, u.what)
		}
	}
	judge(t, box, "utility", func(c check) string { return "command -v " + c.what + " > /dev/null && " + c.script }, uses)
}

// judge runs all checks in one command, each in a shell of its own, and names
// those that did not succeed.
func judge(t *engine.T, box *stage.Box, kind string, script func(check) string, checks []check) {
	var all strings.Builder
	all.WriteString("mkdir -p /tmp/judged && cd /tmp/judged || exit 1\n")
	for _, c := range checks {
		all.WriteString("( " + script(c) + "\n) || echo '" + c.what + "'\n")
	}
	out := box.Sh(all.String()).Code(0)
	for _, name := range strings.Fields(string(out.Stdout)) {
		t.Errorf("%s %s is not there, or does not do what it should; standard error has %s", kind, name, stage.Excerpt(out.Stderr))
	}
}

var behaviours = []check{
	{"/dev/null", `echo lost > /dev/null && [ "$(wc -c < /dev/null | tr -d ' ')" = 0 ] && [ -c /dev/null ]`},
	{"/dev/zero", `echo lost > /dev/zero && [ "$(head -c 3 /dev/zero | od -An -tx1 | tr -d ' \n')" = 000000 ]`},
	{"/dev/full", `! { echo x > /dev/full; } 2>/dev/null && [ "$(head -c 2 /dev/full | od -An -tx1 | tr -d ' \n')" = 0000 ]`},
	{"/dev/random", `[ "$(head -c 16 /dev/random | wc -c | tr -d ' ')" = 16 ] && [ "$(head -c 16 /dev/random | od -An -tx1)" != "$(head -c 16 /dev/random | od -An -tx1)" ]`},
	{"/dev/urandom", `[ "$(head -c 16 /dev/urandom | wc -c | tr -d ' ')" = 16 ] && [ "$(head -c 16 /dev/urandom | od -An -tx1)" != "$(head -c 16 /dev/urandom | od -An -tx1)" ]`},
	{"/tmp", `case "$(ls -ld /tmp | head -c 9)" in ????????w) ;; *) false ;; esac`},
}

func devices(t *engine.T) {
	box := stage.Create(t)
	judge(t, box, "device", func(c check) string { return c.script }, behaviours)
}
