package vercel_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandbar-dev/sandbar/conformance/simulator/vercel"
)

func TestCommands(t *testing.T) {
	c := start(t)
	session := c.create(object{"env": object{"FROM": "sandbox"}}).text("session", "id")
	lines := c.run(session, object{
		"command": "sh", "args": []string{"-c", `echo "$FROM $OWN"; pwd; echo err >&2; exit 7`}, "env": object{"OWN": "command"}, "sudo": false,
	})
	first, last := lines[0], lines[len(lines)-1]
	if first.at("command", "exitCode") != nil || first.text("command", "id") == "" || last.at("command", "exitCode") != float64(7) {
		t.Errorf("the first line is %v and the last %v: want the command without and with its exit code", first, last)
	}
	if out, errs := output(lines, "stdout"), output(lines, "stderr"); out != "sandbox command\n/vercel/sandbox\n" || errs != "err\n" {
		t.Errorf("standard output %q, standard error %q", out, errs)
	}
	t.Log("a signal is 128 and its number, and bytes that are no text are lost, as far as anybody knows")
	if lines = c.run(session, object{"command": "sh", "args": []string{"-c", "kill -KILL $$"}}); lines[len(lines)-1].at("command", "exitCode") != float64(137) {
		t.Errorf("a command that was killed ends with %v", lines[len(lines)-1])
	}
	if out := output(c.run(session, object{"command": "printf", "args": []string{`a\377b`}}), "stdout"); out != "a\ufffdb" {
		t.Errorf("bytes that are no text came as %q", out)
	}
	t.Log("detached: asked for, logged, waited for, killed")
	id := c.call(200, "POST", "/v2/sandboxes/sessions/"+session+"/cmd", object{"command": "sh", "args": []string{"-c", "echo hello; sleep 600"}}).text("command", "id")
	path := "/v2/sandboxes/sessions/" + session + "/cmd/" + id
	if got := c.call(200, "GET", path, nil); got.at("command", "exitCode") != nil {
		t.Errorf("a command that runs is %v", got)
	}
	c.call(200, "POST", path+"/kill", object{"signal": 15})
	if got := c.call(200, "GET", path+"?wait=true", nil); got.at("command", "exitCode") != float64(143) {
		t.Errorf("after SIGTERM it is %v", got)
	}
	if _, _, text := c.send("GET", path+"/logs", nil); output(parseLines(t, text), "stdout") != "hello\n" {
		t.Errorf("its logs are %s", text)
	}
	c.call(400, "POST", path+"/kill", object{"signal": 15})
	if all := c.call(200, "GET", "/v2/sandboxes/sessions/"+session+"/cmd", nil); len(all["commands"].([]any)) != 4 {
		t.Errorf("the session's commands are %v", all)
	}
	c.call(404, "GET", "/v2/sandboxes/sessions/"+session+"/cmd/cmd_none", nil)
}

func targz(t *testing.T, name, content string, mode int64) []byte {
	t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	for _, closer := range []io.Closer{w, zip} {
		if err := closer.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func TestFiles(t *testing.T) {
	c := start(t)
	session := c.create(nil).text("session", "id")
	files := "/v2/sandboxes/sessions/" + session + "/fs/"
	status, _, text := c.send("POST", files+"write", targz(t, "vercel/sandbox/a/run.sh", "#!/bin/sh\necho ran\n", 0o755), "Content-Type", "application/gzip", "X-Cwd", "/")
	if status != 200 {
		t.Fatalf("write answers %d %s", status, text)
	}
	if out := output(c.run(session, object{"command": "./a/run.sh"}), "stdout"); out != "ran\n" {
		t.Errorf("what was written prints %q", out)
	}
	status, header, text := c.send("POST", files+"read", object{"path": "a/run.sh"})
	if status != 200 || header.Get("Content-Type") != "application/octet-stream" || string(text) != "#!/bin/sh\necho ran\n" {
		t.Errorf("read answers %d %s %q", status, header.Get("Content-Type"), text)
	}
	c.call(404, "POST", files+"read", object{"path": "missing"})
	c.call(200, "POST", files+"mkdir", object{"path": "b"})
	c.call(400, "POST", files+"mkdir", object{"path": "b"})
	c.call(400, "POST", files+"mkdir", object{"path": "x/y"})
}

func TestNamesTagsAndPages(t *testing.T) {
	c := start(t)
	for i := range 5 {
		c.create(object{"name": fmt.Sprintf("box-%d", i), "tags": object{"owner": fmt.Sprint(i % 2), "n": fmt.Sprint(i)}})
	}
	if got := c.call(409, "POST", "/v3/sandboxes", object{"projectId": vercel.DefaultProject, "name": "box-1"}); got.text("error", "code") != "conflict" {
		t.Errorf("a name that is taken is refused with %v", got)
	}
	list := func(query string) (names []string, next string) {
		got := c.call(200, "GET", "/v2/sandboxes?project="+vercel.DefaultProject+"&"+query, nil)
		for _, sb := range got["sandboxes"].([]any) {
			names = append(names, object(sb.(map[string]any)).text("name"))
		}
		return names, got.text("pagination", "next")
	}
	if got, next := list("tags=owner:0&sortOrder=asc"); !cmp.Equal(got, []string{"box-0", "box-2", "box-4"}) || next != "" {
		t.Errorf("those with a tag are %q, next %q", got, next)
	}
	if got, _ := list("sortBy=name&namePrefix=box-"); !cmp.Equal(got, []string{"box-4", "box-3", "box-2", "box-1", "box-0"}) {
		t.Errorf("by name, descending: %q", got)
	}
	first, next := list("limit=2&sortOrder=asc")
	c.call(200, "DELETE", "/v2/sandboxes/box-0?"+project, nil)
	c.call(404, "GET", "/v2/sandboxes/box-0?"+project, nil)
	c.create(object{"name": "box-9"})
	second, next := list("limit=3&sortOrder=asc&cursor=" + next)
	third, last := list("limit=3&sortOrder=asc&cursor=" + next)
	want := [][]string{{"box-0", "box-1"}, {"box-2", "box-3", "box-4"}, {"box-9"}}
	if diff := cmp.Diff(want, [][]string{first, second, third}); diff != "" || last != "" {
		t.Errorf("pages (- want, + got), last %q:\n%s", last, diff)
	}
	c.call(400, "GET", "/v2/sandboxes?tags=a:b&tags=c:d", nil)
	c.call(400, "GET", "/v2/sandboxes?cursor=%25", nil)
	c.call(400, "GET", "/v2/sandboxes?limit=1000", nil)
}

func TestRefusals(t *testing.T) {
	c := start(t)
	six := object{"a": "", "b": "", "c": "", "d": "", "e": "", "f": ""}
	for name, tc := range map[string]struct {
		status int
		body   object
	}{
		"another project":   {404, object{"projectId": "prj_other"}},
		"a name with space": {400, object{"name": "a b"}},
		"six tags":          {400, object{"tags": six}},
		"three CPUs":        {400, object{"resources": object{"vcpus": 3}}},
		"no such region":    {400, object{"region": "mars1"}},
		"a region twice":    {400, object{"region": "fra1", "failoverRegions": []string{"fra1"}}},
		"a short life":      {400, object{"timeout": 10}},
		"a long life":       {400, object{"timeout": 1 << 40}},
		"no such image":     {404, object{"image": "nope"}},
		"no such runtime":   {400, object{"runtime": "cobol60"}},
		"both":              {400, object{"runtime": "node24", "image": "ubuntu"}},
		"no such snapshot":  {410, object{"source": object{"type": "snapshot", "snapshotId": "snap_none"}}},
		"a git source":      {501, object{"source": object{"type": "git", "url": "https://example.com/x"}}},
		"no policy":         {400, object{"networkPolicy": object{"mode": "some"}}},
		"no subnet":         {400, object{"networkPolicy": object{"subnets": object{"allow": []string{"x"}}}}},
	} {
		body := object{"projectId": vercel.DefaultProject}
		for k, v := range tc.body {
			body[k] = v
		}
		if got, _, text := c.send("POST", "/v3/sandboxes", body); got != tc.status {
			t.Errorf("%s: %d %s: want %d", name, got, text, tc.status)
		}
	}
	if got := c.call(200, "GET", "/_simulator/state", nil); len(got["sandboxes"].(map[string]any)) != 0 {
		t.Errorf("refused requests left %v", got)
	}
	c.token = "wrong"
	if got := c.call(403, "GET", "/v2/sandboxes", nil); got.at("error", "invalidToken") != true {
		t.Errorf("a wrong token is refused with %v", got)
	}
}

// TestStopAndResume: a persistent sandbox keeps its files from one session to the
// next, and another does not.
func TestStopAndResume(t *testing.T) {
	c := start(t)
	for _, persistent := range []bool{true, false} {
		name := fmt.Sprintf("persistent-%t", persistent)
		session := c.create(object{"name": name, "persistent": persistent}).text("session", "id")
		c.run(session, object{"command": "sh", "args": []string{"-c", "echo kept > file"}})
		if got := c.call(200, "POST", "/v2/sandboxes/sessions/"+session+"/stop", nil); got.text("session", "status") != "stopped" {
			t.Fatalf("stop answers %v", got)
		}
		if got := c.call(410, "POST", "/v2/sandboxes/sessions/"+session+"/cmd", object{"command": "true"}); got.text("error", "code") != "sandbox_stopped" {
			t.Errorf("a command after the stop is refused with %v", got)
		}
		if got := c.call(200, "GET", "/v2/sandboxes/"+name+"?"+project, nil); got.text("sandbox", "status") != "stopped" || got.at("resumed") != false {
			t.Errorf("it is %v", got)
		}
		got := c.call(200, "GET", "/v2/sandboxes/"+name+"?resume=true&"+project, nil)
		next := got.text("session", "id")
		if got.at("resumed") != true || next == session || got.text("session", "status") != "running" {
			t.Fatalf("resuming answers %v", got)
		}
		want := map[bool]string{true: "kept\n", false: ""}[persistent]
		if out := output(c.run(next, object{"command": "cat", "args": []string{"file"}}), "stdout"); out != want {
			t.Errorf("persistent %t: the file has %q: want %q", persistent, out, want)
		}
		c.call(200, "DELETE", "/v2/sandboxes/"+name+"?"+project, nil)
		c.call(404, "POST", "/v2/sandboxes/sessions/"+next+"/cmd", object{"command": "true"})
	}
}

func TestSnapshots(t *testing.T) {
	c := start(t)
	session := c.create(object{"name": "source"}).text("session", "id")
	c.run(session, object{"command": "sh", "args": []string{"-c", "echo kept > file"}})
	got := c.call(200, "POST", "/v2/sandboxes/sessions/"+session+"/snapshot", object{"expiration": 0})
	id := got.text("snapshot", "id")
	if got.text("session", "status") != "stopped" || got.text("snapshot", "status") != "created" || got.at("snapshot", "expiresAt") != nil {
		t.Errorf("a snapshot answers %v: want it made for ever, and its session ended", got)
	}
	for name, body := range map[string]object{
		"restored": {"source": object{"type": "snapshot", "snapshotId": id}, "name": "restored"},
	} {
		other := c.create(body).text("session", "id")
		if out := output(c.run(other, object{"command": "cat", "args": []string{"file"}}), "stdout"); out != "kept\n" {
			t.Errorf("%s: the file has %q", name, out)
		}
	}
	forked := c.call(200, "POST", "/v2/sandboxes/source/fork?"+project, object{"name": "forked"}).text("session", "id")
	if out := output(c.run(forked, object{"command": "cat", "args": []string{"file"}}), "stdout"); out != "kept\n" {
		t.Errorf("forked: the file has %q", out)
	}
	if got := c.call(200, "DELETE", "/v2/sandboxes/snapshots/"+id, nil); got.text("snapshot", "status") != "deleted" {
		t.Errorf("deleting it answers %v", got)
	}
	if got := c.call(200, "GET", "/v2/sandboxes/snapshots", nil); len(got["snapshots"].([]any)) != 1 {
		t.Errorf("its record is not kept: %v", got)
	}
	c.call(410, "POST", "/v3/sandboxes", object{"projectId": vercel.DefaultProject, "source": object{"type": "snapshot", "snapshotId": id}})
}

func TestTimeouts(t *testing.T) {
	c := start(t)
	c.create(object{"name": "short", "timeout": 1000})
	long := c.create(object{"name": "long", "timeout": 60_000})
	got := c.call(200, "POST", "/v2/sandboxes/sessions/"+long.text("session", "id")+"/extend-timeout", object{"duration": 600_000})
	if got.at("session", "timeout") != float64(660_000) {
		t.Errorf("an extended session is %v", got)
	}
	c.call(400, "POST", "/v2/sandboxes/sessions/"+long.text("session", "id")+"/extend-timeout", object{"duration": 10})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		got := c.call(200, "GET", "/v2/sandboxes/short?"+project, nil)
		if got.text("sandbox", "status") == "stopped" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a minute after its timeout it is %v", got)
		}
	}
	if got := c.call(200, "GET", "/v2/sandboxes/long?"+project, nil); got.text("sandbox", "status") != "running" {
		t.Errorf("the one that was extended is %v", got)
	}
}

// TestPolicyIsShownWithoutItsSecrets: values of headers never come back.
func TestPolicyIsShownWithoutItsSecrets(t *testing.T) {
	c := start(t)
	got := c.create(object{"networkPolicy": object{
		"allow": object{
			"api.example.com":   []object{{"transform": []object{{"headers": object{"authorization": "Bearer s3cret"}}}}},
			"proxy.example.com": []object{{"forwardURL": "https://me.example.com"}},
		},
		"subnets": object{"deny": []string{"10.0.0.0/8"}},
	}})
	want := map[string]any{
		"mode": "custom", "allowedDomains": []any{"api.example.com", "proxy.example.com"}, "deniedCIDRs": []any{"10.0.0.0/8"},
		"injectionRules": []any{map[string]any{"domain": "api.example.com", "headerNames": []any{"authorization"}}},
		"forwardRules":   []any{map[string]any{"domain": "proxy.example.com", "forwardURL": "https://me.example.com"}},
	}
	if diff := cmp.Diff(want, got.at("sandbox", "networkPolicy")); diff != "" {
		t.Errorf("the policy as it is shown (- want, + got):\n%s", diff)
	}
	session := got.text("session", "id")
	_, header, _ := c.send("POST", "/v2/sandboxes/sessions/"+session+"/network-policy", object{"mode": "allow-all"})
	if header.Get("X-Simulator-Network") != "closed" {
		t.Error("a policy that is not enforced is not said to be")
	}
	_, header, _ = c.send("POST", "/v2/sandboxes/sessions/"+session+"/network-policy", object{"mode": "deny-all"})
	if header.Get("X-Simulator-Network") != "" {
		t.Error("deny-all is said not to be enforced")
	}
}

func TestFaultsAndEviction(t *testing.T) {
	c := start(t)
	c.call(400, "POST", "/_simulator/faults", object{"path": "/v3/sandboxes", "kind": "strange"})
	c.call(200, "POST", "/_simulator/faults", object{"method": "POST", "path": "/v3/sandboxes", "kind": "status", "status": 429, "retryAfter": 3, "times": 2})
	for range 2 {
		status, header, _ := c.send("POST", "/api/v3/sandboxes", object{"projectId": vercel.DefaultProject})
		if status != 429 || header.Get("Retry-After") != "3" {
			t.Errorf("a rate limit answers %d, Retry-After %q", status, header.Get("Retry-After"))
		}
	}
	c.create(object{"name": "box"})
	c.call(200, "POST", "/_simulator/evict", object{"name": "box"})
	if got := c.call(200, "GET", "/v2/sandboxes/box?"+project, nil); got.text("session", "status") != "aborted" {
		t.Errorf("what was evicted is %v", got)
	}
	c.call(404, "POST", "/_simulator/evict", object{"name": "box"})
	c.call(200, "POST", "/_simulator/faults", object{"path": "/v2/sandboxes", "kind": "refused", "times": 9})
	if got := c.call(200, "DELETE", "/_simulator/faults", nil); got["faults"] != float64(0) {
		t.Errorf("after all faults were taken back there are %v", got)
	}
	c.call(200, "GET", "/v2/sandboxes", nil)
	c.call(501, "GET", "/v2/sandboxes/drives", nil)
	c.call(404, "GET", "/v9/sandboxes", nil)
}
