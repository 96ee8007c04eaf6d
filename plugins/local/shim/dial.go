package shim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// past makes a pending read or write return at once.
var past = time.Unix(1, 0)

// NewConn returns a connection to the shim of a sandbox's folder. It connects
// when it is first used; the caller closes it.
//
// The socket lies in the user's own folder of mode 0700, and the shim asks the
// kernel who connects; there is no further handshake.
func NewConn(dir string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///"+filepath.Base(dir),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx, dir) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(handshake.MaxMessageBytes), grpc.MaxCallSendMsgSize(handshake.MaxMessageBytes)),
		grpc.WithInitialWindowSize(handshake.StreamWindowBytes),
		grpc.WithInitialConnWindowSize(handshake.ConnWindowBytes),
		grpc.WithReadBufferSize(handshake.SocketBufferBytes), grpc.WithWriteBufferSize(handshake.SocketBufferBytes),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to shim: %w", err)
	}
	return conn, nil
}

// dial connects through the folder's descriptor, since the path of a socket may
// have at most 107 bytes and a state folder's path can be longer.
func dial(ctx context.Context, dir string) (net.Conn, error) {
	if _, err := readBootstrap(dir); err != nil {
		return nil, err
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	var nd net.Dialer
	return nd.DialContext(ctx, "unix", descriptorPath(d)+"/"+socketName)
}

// descriptorPath is a short path to an open file, wherever it is now.
func descriptorPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// Kill ends the shim of a sandbox's folder and waits until it is gone. It is a
// no-op if there is none. One that is only coming up, because the plugin that
// started it died, is waited for.
//
// The process is named by the kernel, as the peer of the shim's socket, and
// signalled through a descriptor, so that no other process can be hit.
func Kill(ctx context.Context, dir string) error {
	conn, err := dialAlive(ctx, dir)
	if err != nil {
		return fmt.Errorf("find shim to kill: %w", err)
	}
	if conn == nil {
		return nil
	}
	pidfd, err := peerPidfd(conn)
	_ = conn.Close()
	if err != nil {
		return fmt.Errorf("find shim to kill: %w", err)
	}
	defer func() { _ = unix.Close(pidfd) }()
	if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill shim: %w", err)
	}
	return awaitExit(ctx, pidfd)
}

// dialAlive connects to a shim as soon as it listens; nil if there is none.
func dialAlive(ctx context.Context, dir string) (net.Conn, error) {
	tick := time.NewTicker(exitPoll)
	defer tick.Stop()
	for {
		alive, err := Alive(dir)
		if err != nil || !alive {
			return nil, err
		}
		conn, err := dial(ctx, dir)
		if err == nil {
			return conn, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// exitPoll is how often a wait for a process looks whether its caller left.
const exitPoll = 50 * time.Millisecond

// awaitExit waits until a process has ended. The shim is the first process of
// its pid namespace, so all other processes in there have ended then, and its
// lock is free.
func awaitExit(ctx context.Context, pidfd int) error {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(exitPoll.Milliseconds()))
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for shim to end: %w", err)
		case ctx.Err() != nil:
			return fmt.Errorf("wait for shim to end: %w", ctx.Err())
		}
	}
}

// peerPidfd returns a descriptor of the process that listens. SO_PEERPIDFD needs
// Linux 6.5; before, the id is opened and the lock, still held, proves that the
// shim lived all the while.
func peerPidfd(conn net.Conn) (int, error) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return -1, err
	}
	pidfd := -1
	cerr := raw.Control(func(fd uintptr) {
		if pidfd, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, soPeerPidfd); err == nil {
			return
		}
		var cred *unix.Ucred
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pidfd, err = unix.PidfdOpen(int(cred.Pid), 0)
		}
	})
	return pidfd, errors.Join(cerr, err)
}

// soPeerPidfd is SO_PEERPIDFD of asm-generic/socket.h.
const soPeerPidfd = 77

// A lock is looked at ever more seldom while a shim ends, from firstEndPoll to
// longestEndPoll: most of them end at once, and the kernel offers no wait for the
// release of a lock with a deadline.
const (
	firstEndPoll   = 200 * time.Microsecond
	longestEndPoll = 5 * time.Millisecond
)

// AwaitEnd waits until no shim lives in dir.
func AwaitEnd(ctx context.Context, dir string) error {
	for pause := firstEndPoll; ; pause = min(2*pause, longestEndPoll) {
		alive, err := Alive(dir)
		if err != nil || !alive {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for shim to end: %w", ctx.Err())
		case <-time.After(pause):
		}
	}
}

// peerIsSelf reports whether the process at the other end has this process's
// user, as the kernel says.
func peerIsSelf(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(cerr, err); err != nil {
		return err
	}
	if int(cred.Uid) != syscall.Getuid() {
		return fmt.Errorf("user %d may not talk to this sandbox", cred.Uid)
	}
	return nil
}
