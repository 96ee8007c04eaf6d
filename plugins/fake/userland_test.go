package fake_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestUtilities(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", nil)
	r.scripts("sbx_1", "sh", []script{
		{name: "cat", text: `printf 'a\nb' | cat -n - ; cat /nope`, out: "     1\ta\n     2\tb", errs: "cat: /nope: No such file or directory\n", code: 1},
		{name: "chmod", text: `cd /tmp; touch c; for m in 755 u=rw,go= a+x g-x,o=r +t; do chmod $m c; ls -l c | head -c 10; echo; done`, out: "-rwxr-xr-x\n-rw-------\n-rwx--x--x\n-rwx---r--\n-rwx---r-T\n"},
		{name: "cp", text: `cd /tmp; mkdir -p d/e; echo x > d/e/f; ln -s e d/l; cp -r d d2; cat d2/e/f d2/l/f; cp d d3; echo $?; cp d/e/f /tmp/g; cat g`, out: "x\nx\n1\nx\n", errs: "cp: 'd' to 'd3': Is a directory\n"},
		{name: "date", text: `date -u -d @0 +%Y-%m-%dT%H:%M:%S%%%s; n=$(date +%s); [ $n -gt 1700000000 ] && echo now; date -d yesterday; echo $?`, out: "1970-01-01T00:00:00%0\nnow\n2\n", errs: "date: -d yesterday: want @SECONDS\n"},
		{name: "dd", text: `cd /tmp; printf 0123456789 > i; dd if=i of=o bs=3 skip=1 count=2 status=none; cat o; echo; dd if=i bs=4 2>&1 >/dev/null; printf XX | dd of=i bs=1 seek=4 conv=notrunc status=none; cat i; echo; printf ab | dd of=i bs=1 seek=2 status=none; cat i; dd foo=1; dd conv=swab`, out: "345678\n2+1 records in\n2+1 records out\n10 bytes copied\n0123XX6789\n01ab", errs: "dd: unsupported operand foo=\ndd: unsupported conv=swab\n", code: 2},
		{name: "echo", text: `echo -n a; echo -e 'b\tc\0101\c'; echo; echo -x; echo 'a\nb'`, out: "ab\tcA\n-x\na\\nb\n"},
		{name: "env", text: `env -i A=1 B=2 sh -c 'echo $A$B$HOME'; env -u HOME sh -c 'echo [$HOME]'; env nope; echo $?`, out: "12\n[]\n127\n", errs: "env: 'nope': No such file or directory\n"},
		{name: "head and tail", text: `seq 20 > /tmp/n; head -n 2 /tmp/n; head -1 /tmp/n; tail -n 2 /tmp/n; tail -1 /tmp/n; tail -n +19 /tmp/n; tail -c 3 /tmp/n; tail -c +49 /tmp/n; head -c 4 /tmp/n; head -n -1 /tmp/n`, out: "1\n2\n1\n19\n20\n20\n19\n20\n20\n20\n1\n2\n", errs: "head: \"-1\": want a number, with or without a suffix such as K or M\n", code: 2},
		{name: "id", text: `id; id -u; id -un; id -gn`, out: "uid=0(root) gid=0(root) groups=0(root)\n0\nroot\nroot\n"},
		{name: "ln and readlink", text: `cd /tmp; echo x > t; ln t h; ln -s t s; echo y >> h; cat s; readlink s; readlink -f s; ln -s t s; echo $?; ln -sf h s; readlink s; [ t -ef h ] && echo same; readlink t; echo $?`, out: "x\ny\nt\n/tmp/t\n1\nh\nsame\n1\n", errs: "ln: 't' to 's': File exists\n"},
		{name: "ls", text: `mkdir /tmp/ls; cd /tmp/ls; mkdir d; touch .h b a; chmod 600 a; ls; ls -a; ls -F d ..//ls | head -n 3; ls -d d; ls -l a | head -c 11; ls -1r; ls nope; ls -Z`, out: "a\nb\nd\n.\n..\n.h\na\nb\nd\nd:\n\n..//ls:\nd\n-rw------- d\nb\na\n", errs: "ls: cannot access 'nope': No such file or directory\nls: unsupported option -Z\n", code: 2},
		{name: "mkdir and rmdir", text: `cd /tmp; mkdir a/b; mkdir -p a/b/c && mkdir -m 700 a/p; ls -ld a/p | head -c 10; echo; mkdir a; rmdir a; rmdir -p a/b/c; ls a; rmdir a/p && rmdir a`, out: "drwx------\np\n", errs: "mkdir: cannot create directory 'a/b': No such file or directory\nmkdir: cannot create directory 'a': File exists\nrmdir: failed to remove 'a': Directory not empty\nrmdir: failed to remove 'a': Directory not empty\n"},
		{name: "mv and rm", text: `cd /tmp; mkdir m; echo 1 > f1; echo 2 > f2; mv f1 f2; cat f2; mv f2 m; ls m; mv m m/x; mv m mn; rm mn; rm -r mn; rm nope; rm -f nope && echo ok; rm -rf /`, out: "1\nf2\nok\n", errs: "mv: 'm' to 'm/x': Invalid argument\nrm: cannot remove 'mn': Is a directory\nrm: cannot remove 'nope': No such file or directory\nrm: refusing to remove '/'\n", code: 1},
		{name: "od", text: `printf 'abc\n\001' | od -c; printf 'ab' | od -An -tx1; printf '\1\2\3\4' | od -A d -t u2; head -c 64 /dev/zero | od -A x -t x1`, out: "0000000   a   b   c  \\n 001\n0000005\n 61 62\n0000000   513  1027\n0000004\n000000 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00\n*\n000040\n"},
		{name: "printf", text: `printf '%s-%d-%x-%05.1f|%5s|%-5s|%c|%%\n' a 42 255 2.25 r l xyz; printf '%s\n' 1 2; printf '%b' 'a\tb\n'; printf '\101\x42\n'; printf '%d\n' x; printf '%z'`, out: "a-42-ff-002.2|    r|l    |x|%\n1\n2\na\tb\nAB\n0\n", errs: "printf: x: want a whole number\nprintf: unsupported conversion %z\n", code: 2},
		{name: "seq", text: `seq 3; seq 2 4; seq 10 -5 0; seq -s , 3; seq 0.5 0.5 1.5; seq -w 8 10; seq 3 1`, out: "1\n2\n3\n2\n3\n4\n10\n5\n0\n1,2,3\n0.5\n1.0\n1.5\n08\n09\n10\n"},
		{name: "sha256sum", text: `cd /tmp; printf abc > s; sha256sum s; sha256sum s > sums; sha256sum -c sums; echo x > s; sha256sum -c sums; printf abc | sha256sum`, out: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  s\ns: OK\ns: FAILED\nba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  -\n"},
		{name: "sort", text: `printf '10\n9\nb\n9\n' > /tmp/so; sort /tmp/so; sort -n /tmp/so; sort -ru /tmp/so; printf 'a 2\nb 1\n' | sort -k 2; printf 'x:3\ny:1\n' | sort -t : -k 2 -n; sort -c /tmp/so; sort -o /tmp/so /tmp/so; head -n 1 /tmp/so`, out: "10\n9\n9\nb\nb\n9\n9\n10\nb\n9\n10\nb 1\na 2\ny:1\nx:3\n10\n", errs: "sort: the input is not in order\n"},
		{name: "stty without a terminal", text: `stty size; tty`, out: "not a tty\n", errs: "stty: standard input: Inappropriate ioctl for device\n", code: 1},
		{name: "tee", text: `cd /tmp; echo a | tee t1 t2 >/dev/null; echo b | tee -a t1; cat t1 t2`, out: "b\na\nb\na\n"},
		{name: "touch", text: `cd /tmp; touch -c no; ls no; touch -d @5 old; touch new; [ new -nt old ] && [ old -ot new ] && echo newer; touch -r old new; [ new -nt old ] || echo same`, out: "newer\nsame\n", errs: "ls: cannot access 'no': No such file or directory\n"},
		{name: "tr", text: `echo hello | tr a-y b-z; echo hello | tr -d l; echo aabbc | tr -s ab; echo 'a1 b2' | tr -cd '[:alpha:]\n'; printf 'a\nb\n' | tr '\n' ,; echo Abc | tr '[:lower:]' '[:upper:]'`, out: "ifmmp\nheo\nabc\nab\na,b,ABC\n"},
		{name: "uname", text: `uname; uname -m; uname -n`, out: "Linux\nx86_64\nsbx_1\n"},
		{name: "wc", text: `printf 'a b\nc' > /tmp/w; wc /tmp/w; wc -l < /tmp/w; wc -c /tmp/w; wc -w /tmp/w; printf 'x\n' | wc`, out: "1 3 5 /tmp/w\n1\n5 /tmp/w\n3 /tmp/w\n      1       1       2\n"},
		{name: "devices", text: `cat /dev/null; head -c 3 /dev/zero | od -An -tx1; echo x > /dev/full; echo $?; a=$(head -c 16 /dev/urandom | od -An -tx1); b=$(head -c 16 /dev/random | od -An -tx1); [ "$a" != "$b" ] && echo random; [ -c /dev/null ] && echo x > /dev/null && echo device; echo out > /dev/stdout; echo err > /dev/stderr`, out: " 00 00 00\n1\nrandom\ndevice\nout\n", errs: "echo: write error: No space left on device\nerr\n"},
		{name: "copies of programs", text: `cp /bin/echo /tmp/e && /tmp/e copied; ln -s /bin/cat /tmp/k; echo linked | /tmp/k; rm /bin/uname; uname`, out: "copied\nlinked\n", errs: "sh: uname: not found\n", code: 127},
		{name: "hard-coded paths", text: `/usr/bin/env echo env; /bin/sh -c 'echo sh'; /usr/bin/printf 'p\n'`, out: "env\nsh\np\n"},
	})
}

func TestPermissionsHold(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", nil)
	out, errs, exit := r.finish(r.start("sbx_1", "exe_1", asUser("user", `
		id -u; cat /root/x; ls /root; echo x > /etc/f; mkdir /d; rm /bin/cat; chmod 777 /tmp; echo mine > /tmp/f; cat /tmp/f; echo $HOME; cd; pwd
		touch keep; chmod 000 keep; cat keep; kill -9 1`)))
	want := "1000\nmine\n/home/user\n/home/user\n"
	denied := []string{
		"cat: /root/x: Permission denied", "ls: cannot open directory '/root': Permission denied", "sh: cannot create /etc/f: Permission denied",
		"mkdir: cannot create directory '/d': Permission denied", "rm: cannot remove '/bin/cat': Permission denied", "chmod: '/tmp': Operation not permitted",
		"cat: keep: Permission denied", "kill: (1) - No such process", "",
	}
	if out != want || errs != strings.Join(denied, "\n") || exit.GetCode() != 1 {
		t.Errorf("out %q\nerr %s\nexit %v", out, errs, exit)
	}
	// The sticky bit of /tmp keeps files from other users.
	if out, errs, _ := r.finish(r.start("sbx_1", "exe_2", asUser("nobody", `rm -f /tmp/f; cat /tmp/f`))); out != "mine\n" || !strings.Contains(errs, "Operation not permitted") {
		t.Errorf("another user: out %q err %q", out, errs)
	}
}

func TestUnknownOptionsAreRefused(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", nil)
	for i, name := range strings.Fields(`cat chmod cp date dd env head hostname id kill ln ls mkdir mv od pwd readlink rm rmdir sandbar-probe
		seq sh bash sha256sum sort tail tee touch tr tty uname wc`) {
		out, errs, exit := r.run("sbx_1", fmt.Sprintf("exe_%d", i), name, "--no-such-option", "x")
		code := int32(2)
		if name == "env" {
			code = 125 // its own failures are told from the command's
		}
		if out != "" || errs == "" || exit.GetCode() != code {
			t.Errorf("%s: out %q err %q exit %v", name, out, errs, exit)
		}
	}
}

func TestAMountOverAFileIsRefused(t *testing.T) {
	r := serve(t, nil)
	if _, err := r.CreateVolume(r.ctx, &providerv1.CreateVolumeRequest{Owner: "brk_1", Name: "vol"}); err != nil {
		t.Fatal(err)
	}
	_, err := r.CreateSandbox(r.ctx, &providerv1.CreateSandboxRequest{
		Operation: op("sbx_1"), Identity: identity("sbx_1"), Spec: &providerv1.SandboxSpec{Mounts: []*providerv1.Mount{
			{Source: &providerv1.Mount_Volume{Volume: "vol"}, Target: "/bin/sh/within", Mode: providerv1.MountMode_MOUNT_MODE_RW},
		}},
	})
	if field := fault.From(err).Metadata[fault.MetaField]; reason(err) != providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID || field != "spec.mounts[0].target" {
		t.Errorf("a mount below a file answers %v: want FIELD_INVALID of spec.mounts[0].target", err)
	}
}

func TestMountPointsAreMade(t *testing.T) {
	r := serve(t, nil)
	if _, err := r.CreateVolume(r.ctx, &providerv1.CreateVolumeRequest{Owner: "brk_1", Name: "vol"}); err != nil {
		t.Fatal(err)
	}
	mount := func(target string, mode providerv1.MountMode) *providerv1.Mount {
		return &providerv1.Mount{Source: &providerv1.Mount_Volume{Volume: "vol"}, Target: target, Mode: mode}
	}
	r.create("sbx_1", &providerv1.SandboxSpec{Mounts: []*providerv1.Mount{
		mount("/mnt/a/rw", providerv1.MountMode_MOUNT_MODE_RW), mount("/mnt/ro", providerv1.MountMode_MOUNT_MODE_RO),
	}})
	out, errs, _ := r.run("sbx_1", "exe_1", "sh", "-c", `echo x > /mnt/a/rw/f; cat /mnt/ro/f; ls /mnt /mnt/a; echo y > /mnt/ro/f; echo z > /mnt/kept; mv /mnt/kept /mnt/a/rw/g; cat /mnt/ro/g; rm -r /mnt/ro`)
	if want := "x\n/mnt:\na\nro\n\n/mnt/a:\nrw\nz\n"; out != want || errs != "sh: cannot create /mnt/ro/f: Read-only file system\nrm: cannot remove '/mnt/ro/f': Read-only file system\n" {
		t.Errorf("out %q err %q", out, errs)
	}
}
