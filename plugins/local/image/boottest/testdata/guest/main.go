// Command guest is the only program of the image that the boot test runs: it
// tells what it sees of its root file system.
package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

func main() {
	for _, path := range os.Args[1:] {
		fmt.Printf("%s: %s\n", path, look(path))
	}
	fmt.Println("write:", write())
}

func look(path string) string {
	info, err := os.Lstat(path)
	if err != nil {
		return err.Error()
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "no stat"
	}
	out := fmt.Sprintf("%o %d:%d %d links mtime %d", st.Mode, st.Uid, st.Gid, st.Nlink, st.Mtim.Sec)
	switch {
	case info.Mode().IsRegular():
		f, err := os.Open(path)
		if err != nil {
			return out + " " + err.Error()
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return out + " " + err.Error()
		}
		out += fmt.Sprintf(" %x", h.Sum(nil))
	case info.Mode()&os.ModeSymlink != 0:
		target, _ := os.Readlink(path)
		out += " " + target
	case info.IsDir():
		entries, err := os.ReadDir(path)
		out += fmt.Sprintf(" %d entries %v", len(entries), err)
	}
	return out
}

// write changes what the image has: it must work, in the overlay.
func write() string {
	err := errors.Join(os.Remove("/dir/hard"), os.WriteFile("/dir/new", []byte("x"), 0o600), os.Chmod("/dir/file", 0o600))
	if err != nil {
		return err.Error()
	}
	return "ok"
}
