package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
)

// TestEveryByteOnceWhateverIsCut: a command's random output is read while its
// broker and its plugin are killed, and its plugin is frozen, at random bytes.
// The sandbox and its command live on, and every byte arrives once.
func TestEveryByteOnceWhateverIsCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sb := w.create()
	sent := make([]byte, 6<<20) // more than every buffer on the way
	_, _ = rand.NewChaCha8([32]byte{byte(rand.Uint32())}).Read(sent)
	up := w.command("exec", sb, "--", "sh", "-c", "cat > /tmp/sent")
	up.Stdin = bytes.NewReader(sent)
	if res := w.finish(up); res != (result{0, "", ""}) {
		t.Fatalf("upload: %+v", res)
	}
	cuts := []func(){
		func() { w.kill(broker, "") },
		func() { w.kill(plugin, "") },
		func() { w.freeze(plugin) },
		func() { w.kill(broker, ""); w.killNow(plugin) },
	}
	rand.Shuffle(len(cuts), func(i, j int) { cuts[i], cuts[j] = cuts[j], cuts[i] })
	at := make([]int, len(cuts))
	for i := range at {
		at[i] = rand.N(len(sent)*3/4) + 1
	}
	slices.Sort(at)
	cat := w.start("exec", sb, "--", "cat", "/tmp/sent")
	var got bytes.Buffer
	for i, cut := range cuts {
		if _, err := io.CopyN(&got, cat.out, int64(at[i]-got.Len())); err != nil {
			t.Fatalf("read to byte %d: %v", at[i], err)
		}
		cut()
		// A command that nobody reads from does not notice; another one starts what
		// was killed, so that there is something to kill next.
		w.list()
	}
	res := cat.end()
	got.WriteString(res.stdout)
	if res.code != 0 || res.stderr != "" {
		t.Errorf("exit code %d, stderr %q; cut at %v", res.code, res.stderr, at)
	}
	if sha256.Sum256(got.Bytes()) != sha256.Sum256(sent) {
		t.Errorf("%d bytes arrived that are not the %d that were sent; cut at %v", got.Len(), len(sent), at)
	}
	w.truth()
	w.ok("rm", sb)
	w.none()
}

// freeze stops a process of a kind for ever.
func (w *world) freeze(k kind) {
	w.t.Helper()
	w.eventually("a process to freeze", func() (bool, string) {
		all := w.kind(k, "")
		if len(all) > 0 && syscall.Kill(all[0].pid, syscall.SIGSTOP) != nil {
			return false, all[0].line
		}
		return len(all) > 0, ""
	})
}
