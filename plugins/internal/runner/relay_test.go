package runner

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// relay starts the script for perl, towards a port of this machine.
func relay(t *testing.T, port int) (in io.WriteCloser, out io.Reader, says *bufio.Reader, wait func() error) {
	t.Helper()
	if _, err := exec.LookPath("perl"); err != nil {
		t.Skip("there is no perl on this machine, which the relay is written for")
	}
	cmd := exec.Command("/bin/sh", "-c", Launcher, "sandbar", "relay", relayScript, strconv.Itoa(port), "127.0.0.1", "::1")
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // most have ended
	return in, stdout, bufio.NewReader(stderr), cmd.Wait
}

func says(t *testing.T, from *bufio.Reader, want string) {
	t.Helper()
	line, err := from.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, want) {
		t.Fatalf("it says %q, %v: want %q", line, err, want)
	}
}

// peer listens on a port of this machine and gives one connection to do.
func peer(t *testing.T, do func(*net.TCPConn)) int {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if conn, err := l.AcceptTCP(); err == nil {
			do(conn)
			_ = conn.Close() // the test looks at the other side
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).Port
}

func TestRelay(t *testing.T) {
	data := bytes.Repeat([]byte("every byte\x00\xff\n"), 40_000)
	port := peer(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	in, out, err, wait := relay(t, port)
	says(t, err, "open\n")
	go func() {
		_, _ = in.Write(data) // what comes back says whether it went
		_ = in.Close()
	}()
	got, bad := io.ReadAll(out)
	if bad != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back, %v: want the %d that were sent", len(got), bad, len(data))
	}
	says(t, err, "end\n")
	if err := wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// TestRelayHalves: each direction ends for itself.
func TestRelayHalves(t *testing.T) {
	heard := make(chan string, 1)
	port := peer(t, func(c *net.TCPConn) {
		_, _ = c.Write([]byte("bye"))
		_ = c.CloseWrite()
		rest, _ := io.ReadAll(c)
		heard <- string(rest)
	})
	in, out, err, wait := relay(t, port)
	says(t, err, "open\n")
	if got, bad := io.ReadAll(out); string(got) != "bye" || bad != nil {
		t.Errorf("%q came, %v", got, bad)
	}
	says(t, err, "end\n")
	if _, err := in.Write([]byte("still here")); err != nil {
		t.Error(err)
	}
	_ = in.Close() // its end is what is heard
	if got := <-heard; got != "still here" {
		t.Errorf("the other side heard %q", got)
	}
	if err := wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestRelayBreaks(t *testing.T) {
	port := peer(t, func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, 1))
		_ = c.SetLinger(0) // closing resets
	})
	in, out, err, _ := relay(t, port)
	says(t, err, "open\n")
	if _, err := in.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	says(t, err, "reset 104\n")
	if got, _ := io.ReadAll(out); len(got) != 0 {
		t.Errorf("%q came", got)
	}
	l, bad := net.Listen("tcp", "127.0.0.1:0")
	if bad != nil {
		t.Fatal(bad)
	}
	free := l.Addr().(*net.TCPAddr).Port
	_ = l.Close() // nothing listens there now
	_, _, err, _ = relay(t, free)
	says(t, err, "refused ")
}
