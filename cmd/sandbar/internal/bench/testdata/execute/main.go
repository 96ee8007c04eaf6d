// The command execute runs `echo` in a running gVisor container by the runtime's own library call, once for each byte on its standard
// input, and answers each with a byte when all output is there and the result is known. Its arguments are the runtime's state directory
// and the container.
package main

import (
	"fmt"
	"io"
	"os"

	"gvisor.dev/gvisor/pkg/sentry/control"
	"gvisor.dev/gvisor/runsc/config"
	"gvisor.dev/gvisor/runsc/container"
	"gvisor.dev/gvisor/runsc/flag"
)

func main() {
	if err := serve(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "execute:", err)
		os.Exit(1)
	}
}

func serve(root, id string) error {
	flags := flag.NewFlagSet("runsc", flag.ContinueOnError)
	config.RegisterFlags(flags)
	for name, value := range map[string]string{"root": root, "ignore-cgroups": "true", "network": "none", "overlay2": "root:memory"} {
		if err := flags.Set(name, value); err != nil {
			return err
		}
	}
	conf, err := config.NewFromFlags(flags)
	if err != nil {
		return err
	}
	c, err := container.Load(root, container.FullID{ContainerID: id}, container.LoadOpts{})
	if err != nil {
		return err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	turn := make([]byte, 1)
	for {
		if _, err := io.ReadFull(os.Stdin, turn); err != nil {
			return nil //nolint:nilerr // the end
		}
		if err := echo(conf, c, null); err != nil {
			return err
		}
		if _, err := os.Stdout.Write(turn); err != nil {
			return err
		}
	}
}

func echo(conf *config.Config, c *container.Container, null *os.File) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	pid, err := c.Execute(conf, &control.ExecArgs{
		Argv: []string{"/bin/echo", "hello"}, Envv: []string{"PATH=/usr/bin:/bin", "LC_CTYPE=C.UTF-8"}, WorkingDirectory: "/",
		FilePayload: control.NewFilePayload(map[int]*os.File{0: null, 1: w, 2: w}, nil),
	})
	_ = w.Close()
	if err != nil {
		return err
	}
	out, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	status, err := c.WaitPID(pid)
	if err != nil || status != 0 || string(out) != "hello\n" {
		return fmt.Errorf("echo: %q, status %v, %w", out, status, err)
	}
	return nil
}
