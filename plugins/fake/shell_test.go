package fake_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// script is what a script does, seen from outside.
type script struct {
	name, text string
	out, errs  string
	code       int32
}

func (r *rig) scripts(id, shell string, all []script) {
	r.t.Helper()
	for i, s := range all {
		r.t.Run(s.name, func(t *testing.T) {
			sub := *r
			sub.t = t
			out, errs, exit := sub.run(id, fmt.Sprintf("exe_%s%d", shell, i), shell, "-c", s.text)
			if diff := cmp.Diff(s.out, out); diff != "" {
				t.Errorf("stdout (-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(s.errs, errs); diff != "" {
				t.Errorf("stderr (-want +got)\n%s", diff)
			}
			if exit.GetCode() != s.code || exit.GetSignal() != "" || exit.GetCause() != providerv1.ExitCause_EXIT_CAUSE_TASK {
				t.Errorf("exit %v, want code %d", exit, s.code)
			}
		})
	}
}

func TestShell(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", nil)
	r.scripts("sbx_1", "sh", []script{
		{name: "both streams and a code", text: "echo out; echo err >&2; exit 7", out: "out\n", errs: "err\n", code: 7},
		{name: "expansion", text: `x=1; y=${z:-two}; echo "$x $y" '$x' $((x + 41)) $(echo sub) ${#y} ${y%o}`, out: "1 two $x 42 sub 3 tw\n"},
		{name: "quoting and splitting", text: `a='p q'; for w in $a "$a"; do echo "<$w>"; done`, out: "<p>\n<q>\n<p q>\n"},
		{name: "positional parameters", text: `set -- a "b c"; echo $# "$2" "$*"; shift; echo "$@"`, out: "2 b c a b c\nb c\n"},
		{name: "if, case, while, until, for", text: `
			i=0; while [ $i -lt 3 ]; do i=$((i+1)); [ $i = 2 ] && continue; echo w$i; done
			until [ $i -eq 0 ]; do i=$((i-1)); done; echo u$i
			for f in a b c; do case $f in a) echo A;; b|x) echo B;; *) break;; esac; done
			if false; then echo no; elif true; then echo elif; else echo no; fi`, out: "w1\nw3\nu0\nA\nB\nelif\n"},
		{name: "functions", text: `f() { local v=in; echo "$1 $v"; return 3; }; v=out; f x; echo $? $v`, out: "x in\n3 out\n"},
		{name: "pipeline", text: `printf 'b\na\nc\n' | sort | head -n 2 | tr a-z A-Z`, out: "A\nB\n"},
		{name: "status of a pipeline", text: `false | true; echo $?; set -o pipefail; false | true; echo $?`, out: "0\n1\n"},
		{name: "here-documents", text: "x=v; cat <<A <<-'B'\none $x\nA\n\ttwo $x\n\tB\ncat <<A\n$x $(echo s)\nA", out: "two $x\nv s\n"},
		{name: "files and redirections", text: `cd /tmp; echo a > f; echo b >> f; cat < f; { echo c; echo d >&2; } > f 2>&1; cat f; rm f; ls f 2>/dev/null || echo gone`, out: "a\nb\nc\nd\ngone\n"},
		{name: "descriptors above two", text: `exec 3>/tmp/three; echo x >&3; exec 3>&-; cat /tmp/three; exec 4</tmp/three; read v <&4; echo got $v; echo y >&3`, out: "x\ngot x\n", errs: "sh: 3: Bad file descriptor\n", code: 1},
		{name: "swap of streams", text: `{ echo out; echo err >&2; } 3>&1 1>&2 2>&3`, out: "err\n", errs: "out\n"},
		{name: "globs", text: `mkdir /tmp/g; cd /tmp/g; touch a1 a2 b1 .h; echo *; echo a* ?1 [ab]1; echo z*; echo /tmp/g/*`, out: "a1 a2 b1\na1 a2 a1 b1 a1 b1\nz*\n/tmp/g/a1 /tmp/g/a2 /tmp/g/b1\n"},
		{name: "background and wait", text: `(exit 5) & wait $!; echo $?; sleep 0.01 & wait; echo $?`, out: "5\n0\n"},
		{name: "pids", text: `[ $$ -gt 1 ] && a=$$; (echo $$) | cat > /tmp/p; [ "$(cat /tmp/p)" = "$a" ] && echo same; kill -0 $$ && echo alive; kill -0 99999 || echo none`, out: "same\nalive\nnone\n", errs: "kill: (99999) - No such process\n"},
		{name: "exit trap", text: `trap 'echo bye $?' EXIT; exit 4`, out: "bye 4\n", code: 4},
		{name: "signal traps", text: `trap 'echo usr1' USR1; trap 'echo term; exit 9' TERM; kill -USR1 $$; echo on; kill $$; echo never`, out: "usr1\non\nterm\n", code: 9},
		{name: "a trap interrupts wait", text: `trap 'echo hup' HUP; sleep 60 & p=$!; (sleep 0.05; kill -HUP $$) & wait $p; echo $?; kill $p`, out: "hup\n129\n"},
		{name: "ignored signals are inherited", text: `trap '' TERM; sh -c 'kill $$; echo survived'`, out: "survived\n"},
		{name: "set -e", text: `set -e; false || true; if false; then :; fi; ! true; (echo sub; false; echo no) || echo caught; false; echo never`, out: "sub\nno\n", code: 1},
		{name: "set -u", text: `set -u; echo ${a-x}; echo $a; echo never`, out: "x\n", errs: "sh: a: unbound variable\n", code: 2},
		{name: "read", text: "printf 'a b  c\\nd\\\\\\ne\\n' | { read x y; echo \"$x|$y\"; read -r z; echo \"$z\"; read w || echo no; echo $w; read v || echo end $v; }", out: "a|b  c\nd\\\ne\nend\n"},
		{name: "read loop", text: `printf '1:2\n3:4\n' | while IFS=: read a b; do echo $((a+b)); done; echo "[$IFS]" | od -An -c`, out: "3\n7\n   [      \\t  \\n   ]  \\n\n"},
		{name: "test", text: `[ -d /tmp ] && [ ! -e /nope ] && [ -n x -a -z "" ] && test 3 -gt 2 && [ -x /bin/cat ] && [ abc != abd ] && echo yes; [ 1 -eq x ]; echo $?`, out: "yes\n2\n", errs: "[: x: want a whole number\n"},
		{name: "exec", text: `exec echo replaced; echo never`, out: "replaced\n"},
		{name: "eval, dot and command", text: `eval 'x=1; echo $x'; echo 'y=2; return 3' > /tmp/lib; . /tmp/lib; echo $? $y; command -v cat; command -v nope; echo $?; type cd`, out: "1\n3 2\n/usr/bin/cat\n127\ncd is a shell builtin\n"},
		{name: "environment", text: `A=1 env | head -n 1; B=2; export B; sh -c 'echo $B'; C=3 sh -c 'echo $C'; echo "[$C]"`, out: "A=1\n2\n3\n[]\n"},
		{name: "not found and not executable", text: `nope; echo $?; /etc/os-release; echo $?; /tmp; echo $?`, out: "127\n126\n126\n", errs: "sh: nope: not found\nsh: /etc/os-release: Permission denied\nsh: /tmp: Permission denied\n"},
		{name: "scripts", text: "printf '#!/bin/sh\\necho script $0 $1\\n' > /tmp/s; chmod +x /tmp/s; /tmp/s a; printf 'echo plain $1\\n' > /tmp/t; chmod 755 /tmp/t; /tmp/t b; sh /tmp/t c", out: "script /tmp/s a\nplain b\nplain c\n"},
		{name: "a script on standard input", text: "printf 'read x\\nline\\necho got $x\\n' | sh", out: "got line\n"},
		{name: "getopts", text: `set -- -a -b val rest; while getopts ab: o; do echo $o $OPTARG; done; shift $((OPTIND-1)); echo $1`, out: "a\nb val\nrest\n"},
		{name: "umask", text: `umask 077; touch /tmp/u; ls -l /tmp/u | head -c 10; umask`, out: "-rw-------077\n"},
		{name: "cd and pwd", text: `cd /usr/bin; pwd; pwd -P; cd ..; pwd; cd -; ln -s /tmp /tmp/self; cd /tmp/self && pwd && cd .. && pwd`, out: "/usr/bin\n/bin\n/usr\n/usr/bin\n/tmp/self\n/tmp\n"},
		{name: "ulimit is refused", text: `ulimit -n 5`, errs: "sh: ulimit: is not supported here\n", code: 2},
		{name: "syntax error", text: `if`, errs: "sh: syntax error: 1:1: `if` must be followed by a statement list\n", code: 2},
		{name: "a child ended by a signal", text: `sh -c 'kill -9 $$'; echo $?; sh -c 'kill $$'; echo $?`, out: "137\n143\n", errs: "Killed\nTerminated\n"},
		{name: "yes ends by its reader", text: `yes | head -n 1; yes hello | head -c 8`, out: "y\nhello\nhe"},
		{name: "noclobber", text: `set -C; echo a > /tmp/nc; echo b > /tmp/nc; echo c >| /tmp/nc; cat /tmp/nc`, out: "c\n", errs: "sh: cannot create /tmp/nc: File exists\n"},
		{name: "command substitution keeps only text", text: `x=$(printf 'a\n\n\n'); echo "[$x]"; y=$(false); echo $?`, out: "[a]\n1\n"},
		{name: "a read-only variable", text: `readonly a=1; a=2; echo $? $a`, out: "1 1\n", errs: "sh: a: is read only\n"},
		{name: "nested loops", text: `for i in 1 2; do for j in 1 2; do [ $j = 2 ] && continue 2; echo $i$j; done; done; while :; do while :; do break 2; done; done; echo end`, out: "11\n21\nend\n"},
		{name: "xtrace", text: `set -x; a=1; echo $a`, out: "1\n", errs: "+ a=1\n+ echo 1\n"},
		{name: "tilde", text: `echo ~ ~/x ~user ~nobodyhere`, out: "/root /root/x /home/user ~nobodyhere\n"},
	})
}

func TestBash(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", nil)
	r.scripts("sbx_1", "bash", []script{
		{name: "arrays", text: `a=(x "y z"); a+=(w); a[1]=q; echo "${a[1]}" ${#a[@]} "${a[@]}"; unset b; declare -A m; m[k]=v; m[l]=w; echo ${m[k]} ${m[l]}`, out: "q 3 x q w\nv w\n"},
		{name: "tests", text: `[[ abc == a* && ! -e /nope ]] && echo glob; [[ v12 =~ v([0-9]+) ]] && echo ${BASH_REMATCH[1]}; ((3 > 2)) && echo arith; [[ -z "" || x ]] && echo or`, out: "glob\n12\narith\nor\n"},
		{name: "loops and braces", text: `for ((i = 0; i < 3; i++)); do echo -n $i; done; echo; echo {a,b}{1..2}`, out: "012\na1 a2 b1 b2\n"},
		{name: "here-strings and both streams", text: `cat <<< "x y"; { echo o; echo e >&2; } &> /tmp/both; cat /tmp/both; { echo e >&2; } |& cat`, out: "x y\no\ne\ne\n"},
		{name: "expansions", text: `v=hello; echo ${v^^} ${v/l/L} ${v:1:3} $'a\tb'`, out: "HELLO heLlo ell a\tb\n"},
		{name: "local and declare", text: `f() { local a=1 b; b=2; declare c=3; echo $a$b$c; }; f; echo "[$a$b$c]"; export D=4; bash -c 'echo $D'`, out: "123\n[]\n4\n"},
		{name: "process substitution is refused", text: `cat <(echo x)`, errs: "bash: process substitution is not supported\n", code: 2},
	})
}

func asUser(user, text string) *providerv1.ExecSpec {
	return &providerv1.ExecSpec{Argv: []string{"sh", "-c", text}, User: user}
}
