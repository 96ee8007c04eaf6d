// The command tool is all the programs that the images of the tests have.
package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(verb string, args []string) error {
	switch verb {
	case "cat":
		for _, name := range args {
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			fmt.Print(string(b))
		}
	case "copy": // standard input to standard output
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case "write":
		return os.WriteFile(args[0], []byte(args[1]), 0o644)
	case "remove":
		return os.Remove(args[0])
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
	case "id":
		fmt.Println(syscall.Getuid(), syscall.Geteuid(), syscall.Getgid())
	case "stat":
		for _, name := range args {
			var st syscall.Stat_t
			if err := syscall.Lstat(name, &st); err != nil {
				return err
			}
			fmt.Printf("%o %d:%d %d %d\n", st.Mode, st.Uid, st.Gid, st.Nlink, st.Mtim.Sec)
		}
	case "fill": // up to the first error, and how many MiB that were
		f, err := os.Create(args[0])
		if err != nil {
			return err
		}
		n := 0
		for block := make([]byte, 1<<20); err == nil; n++ {
			_, err = f.Write(block)
		}
		fmt.Println(n-1, err)
	case "count":
		counts := time.NewTicker(5 * time.Millisecond)
		for i := 0; ; i++ {
			fmt.Println(i)
			<-counts.C
		}
	case "eat":
		return eat(args)
	default:
		return fmt.Errorf("unknown verb %q", verb)
	}
	return nil
}

// eat takes MiB of memory in steps, and keeps it until it is killed. A third argument has it done by that many processes.
func eat(args []string) error {
	total, err1 := strconv.Atoi(args[0])
	step, err2 := strconv.Atoi(args[1])
	if err1 != nil || err2 != nil {
		return fmt.Errorf("eat %q: want two numbers", args)
	}
	if len(args) > 2 {
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		for range n {
			cmd := exec.Command("/proc/self/exe", "eat", args[0], args[1])
			cmd.Stdout = os.Stdout
			if err := cmd.Start(); err != nil {
				return err
			}
			defer func() { _ = cmd.Wait() }()
		}
		return nil
	}
	for eaten := 0; eaten < total; eaten += step {
		b, err := syscall.Mmap(-1, 0, step<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
		if err != nil {
			return err
		}
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
	}
	fmt.Println("full")
	select {}
}
