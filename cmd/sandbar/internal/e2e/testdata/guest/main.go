// Command guest is what tests run inside of sandboxes: a static program that
// needs nothing of its root file system.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch args[0] {
	case "hello":
		_, err := fmt.Println("hello from the image")
		return err
	case "http":
		return serve(args[1])
	case "count":
		return count(args[1])
	case "lines":
		return lines(args[1])
	}
	return fmt.Errorf("no such task: %q", args[0])
}

// serve answers on a port, and says so once it listens.
func serve(port string) error {
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	fmt.Println("listening")
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %s %d bytes", r.Method, r.URL.Path, n)
	}))
}

// count writes 1, 2, 3 and so on into a file, whose number only ever lives in
// this process's memory.
func count(file string) error {
	tick := time.NewTicker(5 * time.Millisecond)
	for n := 1; ; n++ {
		if err := os.WriteFile(file+".new", []byte(strconv.Itoa(n)), 0o644); err != nil {
			return err
		}
		if err := os.Rename(file+".new", file); err != nil {
			return err
		}
		<-tick.C
	}
}

// lines prints so many numbered lines, one a few milliseconds after the other,
// and ends with code 5 when its input has ended.
func lines(n string) error {
	many, err := strconv.Atoi(n)
	if err != nil {
		return err
	}
	tick := time.NewTicker(2 * time.Millisecond)
	out := bufio.NewWriter(os.Stdout)
	for i := range many {
		fmt.Fprintf(out, "line %d\n", i)
		if err := out.Flush(); err != nil {
			return err
		}
		<-tick.C
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	os.Exit(5)
	return nil
}
