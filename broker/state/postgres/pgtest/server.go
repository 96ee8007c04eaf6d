package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// superuser is who tests are in the database.
const superuser = "sandbar"

// nobody is the ordinary user of every Linux machine; initdb refuses root.
const nobody = 65534

// errMissing says that the machine has no server.
var errMissing = errors.New("PostgreSQL is not installed: no initdb in PATH or /usr/lib/postgresql (on Debian: apt-get install postgresql)")

// startWait and endWait are far above what a start and an end take, also on a
// machine that is busy with something else.
const (
	startWait = 2 * time.Minute
	endWait   = time.Minute
)

// Server is a running server.
type Server struct {
	dir    string
	cmd    *exec.Cmd
	log    string
	exited chan struct{}
	// err is how it ended, once exited is closed.
	err error
}

// start makes a database in a folder of its own and a server on it.
func start(ctx context.Context, args ...string) (_ *Server, err error) {
	initdb, postgres, err := programs()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sbpg")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, log: filepath.Join(dir, "log"), exited: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, nobody, nobody); err != nil {
			return nil, err
		}
	}
	data := filepath.Join(dir, "data")
	maker := s.command(initdb, "-D", data, "-U", superuser, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	if out, err := maker.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make a database: %w\n%s", err, out)
	}
	all := []string{
		"-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "max_connections=200", "-c", "shared_buffers=32MB",
		"-c", "deadlock_timeout=50ms",
	}
	s.cmd = s.command(postgres, append(all, args...)...)
	if err := s.run(); err != nil {
		return nil, err
	}
	if err := s.await(ctx); err != nil {
		return nil, errors.Join(err, s.end())
	}
	return s, nil
}

// programs returns initdb and postgres, of the newest version if there are
// several.
func programs() (initdb, postgres string, err error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", "", err
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			found = append(found, path)
		}
	}
	for _, initdb := range slices.Backward(found) {
		postgres := filepath.Join(filepath.Dir(initdb), "postgres")
		if _, err := os.Stat(postgres); err == nil {
			return initdb, postgres, nil
		}
	}
	return "", "", errMissing
}

func (s *Server) command(program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), program, args...) // ended by end, or with the test binary
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	// SIGQUIT ends a server at once, with all of its processes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return cmd
}

// run starts the server from a thread that lives as long as it does: the kernel
// ends a child when the thread that made it ends.
func (s *Server) run() error {
	log, err := os.Create(s.log)
	if err != nil {
		return err
	}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer func() { _ = log.Close() }()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			s.err = s.cmd.Wait()
			close(s.exited)
		}
	}()
	return <-started
}

// await returns when the server takes connections.
func (s *Server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := pgx.Connect(ctx, s.URL())
		if err == nil {
			return c.Close(ctx)
		}
		select {
		case <-tick.C:
		case <-s.exited:
			return fmt.Errorf("the server ended: %w\n%s", s.err, s.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("the server takes no connection: %w\n%s", err, s.lastWords())
		}
	}
}

func (s *Server) lastWords() string {
	text, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-20):], []byte("\n")))
}

// close ends the server and removes its folder.
func (s *Server) close() error { return errors.Join(s.end(), os.RemoveAll(s.dir)) }

// end ends the server, with connections that are open cut.
func (s *Server) end() error {
	_ = s.cmd.Process.Signal(syscall.SIGINT) // unless it has ended
	timer := time.NewTimer(endWait)
	defer timer.Stop()
	select {
	case <-s.exited:
	case <-timer.C:
		_ = s.cmd.Process.Signal(syscall.SIGQUIT)
		<-s.exited
		return fmt.Errorf("the server did not end within %v:\n%s", endWait, s.lastWords())
	}
	if s.err != nil && !strings.Contains(s.err.Error(), "signal") {
		return fmt.Errorf("the server ended: %w\n%s", s.err, s.lastWords())
	}
	return nil
}
