package seal_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/broker/seal"
)

func keys(t *testing.T, newest []byte, before ...[]byte) *seal.Keys {
	t.Helper()
	k, err := seal.New(newest, before...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSeal(t *testing.T) {
	k := keys(t, seal.NewKey())
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(t, "secret")
		of := rapid.String().Draw(t, "of")
		stored, again := k.Seal(secret, of), k.Seal(secret, of)
		if len(stored) != len(secret)+seal.Overhead || bytes.Equal(stored, again) || len(secret) > 8 && bytes.Contains(stored, secret) {
			t.Fatalf("%x is sealed as %x and %x", secret, stored, again)
		}
		if got, err := k.Open(stored, of); err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("opened as %x, %v", got, err)
		}
		if _, err := k.Open(stored, of+"x"); !errors.Is(err, seal.ErrBroken) {
			t.Fatalf("another's secret opens: %v", err)
		}
		i := rapid.IntRange(0, len(stored)-1).Draw(t, "byte")
		stored[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if got, err := k.Open(stored, of); err == nil {
			t.Fatalf("changed at %d it opens as %x", i, got)
		}
	})
}

// TestRotation: what an older key sealed opens, and is to be sealed again.
func TestRotation(t *testing.T) {
	old, fresh, secret := seal.NewKey(), seal.NewKey(), []byte("secret")
	before, both, after := keys(t, old), keys(t, fresh, old), keys(t, fresh)
	stored := before.Seal(secret, "x")
	if got, err := both.Open(stored, "x"); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("with both keys: %q, %v", got, err)
	}
	if !before.Current(stored) || both.Current(stored) {
		t.Error("which key sealed it is not told")
	}
	if _, err := after.Open(stored, "x"); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("without its key: %v", err)
	}
	again := both.Seal(secret, "x")
	if !both.Current(again) || !after.Current(again) {
		t.Error("it is not sealed with the newest key")
	}
}

// TestUnsealed: what was stored before there were keys is read as it is.
func TestUnsealed(t *testing.T) {
	secret := bytes.Repeat([]byte{1}, 32)
	var none *seal.Keys
	some := keys(t, seal.NewKey())
	for name, k := range map[string]*seal.Keys{"without keys": none, "with keys": some} {
		if got, err := k.Open(secret, "x"); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
		if !k.Current(nil) {
			t.Errorf("%s: no secret is to be sealed", name)
		}
	}
	if !bytes.Equal(none.Seal(secret, "x"), secret) || !none.Current(secret) || some.Current(secret) {
		t.Error("without keys it is sealed, or with keys it may stay as it is")
	}
	if _, err := none.Open(some.Seal(secret, "x"), "x"); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("without keys, what is sealed: %v", err)
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sealing.key")
	first, err := seal.KeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := seal.KeyFile(path)
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("the key is another one: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("the file has mode %o", mode)
	}
	for _, text := range []string{"", "hush", base64.StdEncoding.EncodeToString(first[1:]), base64.StdEncoding.EncodeToString(first) + "x"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := seal.KeyFile(path)
		if err == nil || !strings.HasPrefix(err.Error(), path+" is no sealing key: want 32 random bytes in base64") {
			t.Errorf("%q: %v", text, err)
		} else if text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("the error tells the key: %v", err)
		}
	}
	if _, err := seal.New([]byte("short")); err == nil {
		t.Error("a short key is taken")
	}
}
