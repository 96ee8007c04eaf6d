package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// maxCopied bounds a copied file of /etc; ld.so.cache of a large host has some hundred KiB.
const maxCopied = 8 << 20

// buildEtc makes /etc from nothing: the host's own names users, services and secrets.
func buildEtc(opts Options, dir string) error {
	for _, name := range etcShared {
		src, dst := filepath.Join(opts.Host, name), filepath.Join(dir, name)
		if fi, err := os.Stat(src); err != nil || !fi.IsDir() {
			continue
		}
		if err := makeDir(dst, 0o755); err != nil {
			return err
		}
		if err := bindReadOnly(src, dst); err != nil {
			return err
		}
	}
	for _, name := range etcCopied {
		if err := copyFile(filepath.Join(opts.Host, name), filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("copy %q: %w", name, err)
		}
	}
	for _, files := range []map[string]string{Files(opts.Hostname), generated} {
		for name, content := range files {
			if err := writeFile(filepath.Join(dir, name), content); err != nil {
				return fmt.Errorf("write %q: %w", name, err)
			}
		}
	}
	return nil
}

// Files are what a guest must find in /etc about itself, by path, whatever its root file system; Host writes them by itself. An empty
// hostname is "sandbox".
func Files(hostname string) map[string]string {
	if hostname == "" {
		hostname = "sandbox"
	}
	return map[string]string{
		"/etc/hostname":    hostname + "\n",
		"/etc/hosts":       "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n127.0.1.1\t" + hostname + "\n",
		"/etc/resolv.conf": "",
	}
}

// Rename gives the files of a tree that Host built another host name.
func Rename(dir, hostname string) error {
	for name, content := range Files(hostname) {
		if err := writeFile(filepath.Join(dir, name), content); err != nil {
			return fmt.Errorf("rename host in %q: %w", name, err)
		}
	}
	return nil
}

// generated are the other files whose content does not come from the host.
var generated = map[string]string{
	"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n" +
		"sandbox:x:1000:1000:sandbox:/home/sandbox:/bin/sh\n" +
		"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
	"etc/group":         "root:x:0:\ntty:x:5:\nsandbox:x:1000:\nnogroup:x:65534:\n",
	"etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nprotocols: files\nservices: files\n",
	"etc/profile":       "umask 022\n",
}

func copyFile(src, dst string) error {
	fi, err := os.Stat(src)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return nil // not every host has every file
	case err != nil:
		return err
	case !fi.Mode().IsRegular() || fi.Size() > maxCopied:
		return nil
	}
	b, err := os.ReadFile(src)
	if err != nil {
		return err
	}
	return writeFile(dst, string(b))
}

func writeFile(name, content string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(content), 0o644)
}
