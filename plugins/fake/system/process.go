package system

import (
	"net/netip"
	"time"
)

// Program is what a process runs: it returns the exit code. argv[0] is the name
// it was called by.
type Program func(p Process, argv []string) int

// Process is a running program's side of the system calls.
type Process interface {
	Descriptors
	Tree
	Processes
	Signals
	Network

	// User returns the ids that permissions are checked with.
	User() (uid, gid uint32)
	Hostname() string
	Now() time.Time
	// Environ returns name=value pairs. The caller may change the slice.
	Environ() []string
	// Checkpoint does nothing but what every call does first. Loops that make no
	// other call make this one.
	Checkpoint()
	// Alloc takes memory until the process ends, or, below 0, gives some of it back.
	// A process that takes the sandbox above its limit is killed.
	Alloc(bytes int64)
}

// Descriptors are the calls about open files.
type Descriptors interface {
	// Open flags are those of package os: O_RDONLY, O_WRONLY, O_RDWR, O_APPEND,
	// O_CREATE, O_EXCL, O_TRUNC.
	Open(name string, flags int, mode uint32) (fd int, err error)
	Close(fd int) error
	// Dup returns a copy of fd that is at least least.
	Dup(fd, least int) (int, error)
	// Dup2 makes to a copy of from, and closes what to was.
	Dup2(from, to int) error
	Pipe() (r, w int, err error)
	// Read returns io.EOF at the end.
	Read(fd int, b []byte) (int, error)
	// Write writes everything or fails. To a pipe that nobody reads it raises
	// SIGPIPE.
	Write(fd int, b []byte) (int, error)
	Seek(fd int, offset int64, whence int) (int64, error)
	Truncate(fd int, size int64) error
	Fstat(fd int) (Info, error)
	// Terminal returns the terminal that fd is, or nil.
	Terminal(fd int) Terminal
}

// Tree is the calls about files by name.
type Tree interface {
	Dir() string
	Chdir(name string) error
	Umask(mask uint32) (old uint32)
	// Stat follows a last symbolic link if follow is set.
	Stat(name string, follow bool) (Info, error)
	// Access asks for a sum of 4 read, 2 write, 1 execute; 0: existence.
	Access(name string, mode uint32) error
	// ReadDir returns entries by name, without "." and "..".
	ReadDir(name string) ([]Info, error)
	// Resolve returns the name without symbolic links.
	Resolve(name string) (string, error)
	Mkdir(name string, mode uint32) error
	Unlink(name string) error
	Rmdir(name string) error
	Rename(from, to string) error
	Link(from, to string) error
	Symlink(target, name string) error
	Readlink(name string) (string, error)
	Chmod(name string, mode uint32) error
	Chtimes(name string, modified time.Time) error
	// Chown changes the owner of a file, or of a link itself, which only root may.
	Chown(name string, uid, gid uint32) error
}

// Processes is the calls about processes.
type Processes interface {
	PID() int
	Parent() int
	// Fork starts a process that runs f with copies of descriptors, folder,
	// environment and ignored signals. syscall.EAGAIN if the sandbox has no room.
	Fork(f func(Process) int) (pid int, err error)
	// Exec runs the program in a file instead of the caller and, if there is one,
	// never returns. Caught signals get their default.
	Exec(file string, argv, env []string) error
	// Setsid makes the caller the leader of a process group of its own, without a
	// terminal. syscall.EPERM if it leads one.
	Setsid() error
	// Exit ends the process.
	Exit(code int)
	// Wait waits for a child; syscall.ECHILD if pid is none or was waited for.
	Wait(pid int) (Status, error)
	// Sleep waits; syscall.EINTR if a caught signal came.
	Sleep(d time.Duration) error
}

// Signals is the calls about signals.
type Signals interface {
	// Kill sends a signal; Signal 0 only asks whether pid lives. Pid 0 and -1 are
	// the caller's group and every process of the sandbox.
	Kill(pid int, s Signal) error
	// Handle says what a signal does to the caller, and what it did.
	Handle(s Signal, a Action) (was Action)
	// Caught returns the next caught signal that came.
	Caught() (Signal, bool)
}

// Resolver is what answers queries for names, if anything does.
var Resolver = netip.MustParseAddrPort("10.0.0.53:53")

// Network is the calls about sockets. Datagrams go to one address, and have no
// listeners inside.
type Network interface {
	// Connect returns a connection to an IP address, by tcp or udp. It waits while it
	// is not decided whether the connection may leave. syscall.ECONNREFUSED if nothing
	// listens there or it may not, syscall.ENETUNREACH if nothing leaves.
	Connect(network string, to netip.AddrPort) (conn int, err error)
	// Listen returns a listening descriptor. syscall.EADDRINUSE.
	Listen(port uint16) (fd int, err error)
	Accept(fd int) (conn int, err error)
	// Shutdown ends the sending direction of a connection.
	Shutdown(fd int) error
}

// Terminal is a terminal's settings.
type Terminal interface {
	Size() (rows, cols uint32)
	SetSize(rows, cols uint32)
	Modes() Modes
	SetModes(m Modes)
}

// Modes are the settings of a terminal that the fake knows.
type Modes struct {
	// Canonical hands over input by line, after editing; Echo shows it; Signals
	// makes control characters signals; CRToNL makes return a newline on input.
	Canonical, Echo, Signals, CRToNL bool
	// NLToCRNL makes newline also return on output.
	NLToCRNL bool
}

// Cooked are the modes that a terminal starts with.
var Cooked = Modes{Canonical: true, Echo: true, Signals: true, CRToNL: true, NLToCRNL: true}

// Kind is what a file is.
type Kind uint8

// The kinds of files.
const (
	Regular Kind = iota + 1
	Directory
	Symlink
	Device
	Pipe
	Socket
)

// Info is what Stat tells.
type Info struct {
	Name     string
	Kind     Kind
	Mode     uint32
	UID, GID uint32
	Size     int64
	Modified time.Time
	Target   string
	// ID is equal for names of the same file only.
	ID any
}

// Status is how a process ended: by a signal, or else with a code.
type Status struct {
	Code   int
	Signal Signal
}

// ExitCode is what a shell makes of it.
func (s Status) ExitCode() int {
	if s.Signal != 0 {
		return 128 + int(s.Signal)
	}
	return s.Code
}
