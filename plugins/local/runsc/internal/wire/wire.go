// Package wire is the protocol between a shim and the agent that is process 1 of its guest.
//
// Both directions are JSON documents, one per line, over one pipe each (RequestFD and EventFD in the guest). Bulk data never
// travels here: every byte stream has a FIFO of its own, named in the request, in the directory IODir. A guest frame is at most
// MaxEvent bytes, so that one write(2) is atomic and a checkpoint can never cut a frame in two.
//
// The package imports nothing but the standard library, since it is linked into the guest.
package wire

const (
	// Dir holds everything Sandbar owns inside a guest. It is mounted, so it is no part of the guest's own tree.
	Dir = "/.sandbar"
	// AgentPath is the agent's executable; a process with this argv[0] is the agent.
	AgentPath = Dir + "/agent"
	// IODir holds the FIFOs of live streams.
	IODir = Dir + "/io"
	// TmpMarker is a mount inside /tmp until the guest has started: gVisor covers an empty /tmp with an unlimited memory file
	// system, which would escape the disk limit. The agent removes it.
	TmpMarker = "/tmp/.sandbar-boot"

	// StageDir has the mounts, on a first root, that the agent makes a layered root of: see Layers.
	StageDir = Dir + "/stage"
	// ImageDir is the image that becomes the root.
	ImageDir = StageDir + "/image"
	// SourceDir has what becomes copy-on-write mounts, called 0, 1, ...
	SourceDir = StageDir + "/source"
	// DiskDir is the memory file system, of a bounded size and kept in a file of the host, that takes what is written to either.
	DiskDir = StageDir + "/disk"
	// RootDir is where the agent mounts the new root.
	RootDir = StageDir + "/root"
	// CopyDir is where it mounts the copies.
	CopyDir = StageDir + "/copy"
	// OldDir is where the first root is until nothing of it is needed.
	OldDir = Dir + "/old"

	// RequestFD is the agent's end of the control pipe for requests.
	RequestFD = 3
	// EventFD is its end of the one for events.
	EventFD = 4

	// MaxEvent is PIPE_BUF: a write of at most this size to a pipe is atomic.
	MaxEvent = 4096
	// MaxRequest bounds one request line; argv and environment are limited by the kernel to about 2 MiB anyway.
	MaxRequest = 4 << 20
)

// Protocol is what the types of this package amount to. A guest that is restored speaks that of the build which
// saved it, so it changes with what an agent or a shim of an older build would not understand; TestProtocol finds every
// change.
const Protocol = 1

// Op names what a request asks for.
type Op string

// The operations of the agent.
const (
	OpSetup   Op = "setup"   // carry out Setup in a new guest; the first request there
	OpHello   Op = "hello"   // answer with the table of execs
	OpStart   Op = "start"   // run Exec.Argv with the streams Stdin, Stdout, Stderr
	OpSignal  Op = "signal"  // send Signal to the process group of exec Exec.ID
	OpResize  Op = "resize"  // set the terminal size of exec Exec.ID
	OpPrepare Op = "prepare" // open the streams Prepare for a start to come, instead of those opened so before
	OpDial    Op = "dial"    // connect to Network/Address, Stdin and Stdout are the two directions
	OpStat    Op = "stat"    // describe Path, without following a final link
	OpList    Op = "list"    // stream one JSON FileInfo per line to Stdout
	OpRead    Op = "read"    // stream Path[Offset:Offset+Length] to Stdout
	OpWrite   Op = "write"   // replace Path by the bytes of Stdin, once committed
	OpPatch   Op = "patch"   // put the bytes of Stdin at Offset of Path, or at its end if that is negative, and await the commit
	OpCommit  Op = "commit"  // the write request Commit was Length bytes long (-1: give it up)
	OpMkdir   Op = "mkdir"   // make directory Path, and parents when Recursive
	OpRemove  Op = "remove"  // remove Path, and what is below when Recursive
	OpRename  Op = "rename"  // rename Path to Target
	OpTar     Op = "tar"     // stream Path as a tar archive to Stdout
	OpUntar   Op = "untar"   // unpack the tar archive on Stdin below Path
	OpUpper   Op = "upper"   // stream one JSON UpperFile per line to Stdout, for all that was written to a layered root
	OpName    Op = "name"    // make Hostname the name of the host
	OpReclaim Op = "reclaim" // kill the process with the largest resident set, if processes hold too much of Limit or Force is set
)

// Request is one line from the shim to the agent.
type Request struct {
	ID     uint64 `json:"id"`
	Op     Op     `json:"op"`
	Setup  *Setup `json:"setup,omitempty"`
	Exec   *Exec  `json:"exec,omitempty"`
	ExecID string `json:"exec_id,omitempty"`
	// Forget names ended execs whose results are no longer needed; any request may bring it.
	Forget  []string `json:"forget,omitempty"`
	Prepare []string `json:"prepare,omitempty"` // FIFOs in IODir that the guest will write
	Signal  int      `json:"signal,omitempty"`
	Size    *Size    `json:"size,omitempty"`
	Network string   `json:"network,omitempty"`
	Address string   `json:"address,omitempty"`

	Path      string `json:"path,omitempty"`
	Target    string `json:"target,omitempty"`
	Offset    int64  `json:"offset,omitempty"`
	Length    int64  `json:"length,omitempty"` // of a read (0 is to the end) or a commit
	Commit    uint64 `json:"commit,omitempty"` // the write request that OpCommit is about
	Mode      uint32 `json:"mode,omitempty"`
	User      string `json:"user,omitempty"` // owner of created files; empty is root
	Recursive bool   `json:"recursive,omitempty"`
	Limit     int64  `json:"limit,omitempty"` // of memory, in bytes
	Force     bool   `json:"force,omitempty"`
	Hostname  string `json:"hostname,omitempty"`

	// Stdin, Stdout and Stderr name FIFOs in IODir; empty is the null device.
	Stdin  string `json:"stdin,omitempty"`
	Stdout string `json:"stdout,omitempty"`
	Stderr string `json:"stderr,omitempty"`
}

// Setup is what remains to be done inside a guest before anything else may run there. It needs CAP_SYS_ADMIN, which the agent
// gives up at its end.
type Setup struct {
	// MaxTasks limits the tasks of the guest; 0 does not.
	MaxTasks int64 `json:"max_tasks,omitempty"`
	// TmpMarker says that there is a mount at TmpMarker to remove, and MakeTmp that /tmp was made for it.
	TmpMarker bool `json:"tmp_marker,omitempty"`
	MakeTmp   bool `json:"make_tmp,omitempty"`
	// Layers is nil for a root that the runtime has put together.
	Layers *Layers `json:"layers,omitempty"`
	// Files are written, by path, with the modification time FilesTime.
	Files map[string]string `json:"files,omitempty"`
}

// Layers has the agent put the root together itself, which the runtime does only for a root without copy-on-write mounts in it.
type Layers struct {
	// Copies says whether there is anything in SourceDir.
	Copies bool `json:"copies,omitempty"`
	// Show are mounts of the first root that the new one has too, in this order.
	Show []Show `json:"show"`
}

// Show has From of the first root seen at To of the new one.
type Show struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// UpperFile is one file that was written to a layered root. Names are bytes.
type UpperFile struct {
	// Name is "root" or "copy/" and a number, for what is written to the root or a copy-on-write mount, and the path there.
	Name    []byte `json:"name"`
	Size    int64  `json:"size,omitempty"`
	Mode    uint32 `json:"mode"` // st_mode, with the type bits
	UID     uint32 `json:"uid,omitempty"`
	GID     uint32 `json:"gid,omitempty"`
	ModTime int64  `json:"mtime"` // nanoseconds since 1970
	Target  []byte `json:"target,omitempty"`
	// Gone says that this stands for a file of the layer below that was removed.
	Gone bool `json:"gone,omitempty"`
}

// HostFiles are the files that name the host, and in each the line that does, with a guest's name in the place of %s.
var HostFiles = map[string]string{"/etc/hostname": "%s\n", "/etc/hosts": "127.0.1.1\t%s\n"}

// FilesTime is a time, in seconds since 1970, that marks files that nobody has touched since the setup.
const FilesTime = 1

// Exec describes a process to start.
type Exec struct {
	ID   string   `json:"id"`
	Argv []string `json:"argv"`
	Env  []string `json:"env,omitempty"`
	Cwd  string   `json:"cwd,omitempty"`
	User string   `json:"user,omitempty"` // name, uid or either with :group
	TTY  *Size    `json:"tty,omitempty"`
	// MaxTasks is RLIMIT_NPROC of the process; 0 is none.
	MaxTasks int64 `json:"max_tasks,omitempty"`
}

// Size is a terminal's size.
type Size struct {
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

// Event is one line from the agent to the shim: the answer to request ID, or with ID 0 something that happened.
type Event struct {
	ID    uint64      `json:"id,omitempty"`
	Error *Error      `json:"error,omitempty"`
	PID   int         `json:"pid,omitempty"`
	Info  *FileInfo   `json:"info,omitempty"`
	Exit  *ExecStatus `json:"exit,omitempty"`
	// Done names the request whose streamed part has ended (Error says how); its answer came before.
	Done uint64 `json:"done,omitempty"`
	// Status is one row of the answer to OpHello; the answer itself follows the rows.
	Status *ExecStatus `json:"status,omitempty"`
	// Fatal says why the agent stopped serving.
	Fatal string `json:"fatal,omitempty"`
}

// Error is an operating system error in the guest.
type Error struct {
	Errno   int    `json:"errno,omitempty"`
	Message string `json:"message"`
	// Part is what of a start request was wrong: one of the Part constants, or empty.
	Part string `json:"part,omitempty"`
}

// The parts of a start request that the guest itself can refuse.
const (
	PartUser    = "user"
	PartDir     = "dir"
	PartProgram = "program"
)

// ExecStatus is what the agent knows of one exec.
type ExecStatus struct {
	ID     string `json:"id"`
	PID    int    `json:"pid"`
	Ended  bool   `json:"ended,omitempty"`
	Code   int    `json:"code,omitempty"`
	Signal int    `json:"signal,omitempty"`
	OOM    bool   `json:"oom,omitempty"`
}

// FileInfo describes one file of the guest.
type FileInfo struct {
	Name    string `json:"name"`
	Size    int64  `json:"size"`
	Mode    uint32 `json:"mode"` // st_mode, with the type bits
	UID     uint32 `json:"uid"`
	GID     uint32 `json:"gid"`
	ModTime int64  `json:"mtime"` // nanoseconds since 1970
	Target  string `json:"target,omitempty"`
}
