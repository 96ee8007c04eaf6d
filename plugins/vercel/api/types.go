package api

// The shapes below are those of packages/vercel-sandbox/src/api-client/validators.ts
// of the vendor's own client. Times are milliseconds since 1970, durations are
// milliseconds, memory is MiB.

// States of a session, and of the sandbox that it is the current one of.
const (
	Pending      = "pending"
	Running      = "running"
	Stopping     = "stopping"
	Stopped      = "stopped"
	Failed       = "failed"
	Aborted      = "aborted"
	Snapshotting = "snapshotting"
)

// Codes of errors that decide what is done next.
const (
	CodeNotFound        = "not_found"
	CodeBadRequest      = "bad_request"
	CodeSandboxStopped  = "sandbox_stopped"
	CodeSandboxStopping = "sandbox_stopping"
)

// Sandbox is a named record; a Session is one run of a virtual machine for it.
type Sandbox struct {
	Name             string            `json:"name"`
	Persistent       bool              `json:"persistent"`
	Region           string            `json:"region"`
	VCPUs            float64           `json:"vcpus"`
	Memory           float64           `json:"memory"`
	Runtime          string            `json:"runtime"`
	Image            string            `json:"image"`
	CreatedAt        int64             `json:"createdAt"`
	UpdatedAt        int64             `json:"updatedAt"`
	CurrentSessionID string            `json:"currentSessionId"`
	Status           string            `json:"status"`
	StatusUpdatedAt  int64             `json:"statusUpdatedAt"`
	Timeout          int64             `json:"timeout"`
	Tags             map[string]string `json:"tags"`
}

// Session is one run of a sandbox.
type Session struct {
	ID        string  `json:"id"`
	Status    string  `json:"status"`
	Region    string  `json:"region"`
	VCPUs     float64 `json:"vcpus"`
	Memory    float64 `json:"memory"`
	Timeout   int64   `json:"timeout"`
	CreatedAt int64   `json:"createdAt"`
	StartedAt int64   `json:"startedAt"`
	StoppedAt int64   `json:"stoppedAt"`
	AbortedAt int64   `json:"abortedAt"`
	CWD       string  `json:"cwd"`
}

// SandboxAnswer is a sandbox with its current session.
type SandboxAnswer struct {
	Sandbox Sandbox `json:"sandbox"`
	Session Session `json:"session"`
	Routes  []Route `json:"routes"`
	Resumed bool    `json:"resumed"`
}

// Route is the address of a port, which is open to the whole world.
type Route struct {
	URL  string `json:"url"`
	Port uint32 `json:"port"`
}

// Policy says what may leave a sandbox.
type Policy struct {
	Mode string `json:"mode"`
}

// DenyAll lets nothing out, names included.
const DenyAll = "deny-all"

// Resources are what a sandbox gets; memory follows from VCPUs.
type Resources struct {
	VCPUs int64 `json:"vcpus"`
}

// CreateRequest asks for a sandbox. The client adds the project.
type CreateRequest struct {
	ProjectID     string            `json:"projectId"`
	Name          string            `json:"name"`
	Timeout       int64             `json:"timeout"`
	Resources     *Resources        `json:"resources,omitempty"`
	Runtime       string            `json:"runtime,omitempty"`
	Image         string            `json:"image,omitempty"`
	Persistent    bool              `json:"persistent"`
	NetworkPolicy *Policy           `json:"networkPolicy,omitempty"`
	Env           map[string]string `json:"env,omitempty"`
	Tags          map[string]string `json:"tags,omitempty"`
	Region        string            `json:"region,omitempty"`
	Ports         []uint32          `json:"ports,omitempty"`
}

// UpdateRequest changes a sandbox. What is nil stays.
type UpdateRequest struct {
	// Persistent keeps the disk when a session ends.
	Persistent *bool `json:"persistent,omitempty"`
	// Timeout is of the next session, in milliseconds.
	Timeout *int64 `json:"timeout,omitempty"`
	// SnapshotExpiration is when a disk that was kept is removed, in milliseconds after it
	// was.
	SnapshotExpiration *int64 `json:"snapshotExpiration,omitempty"`
}

// ListQuery picks sandboxes, oldest first.
type ListQuery struct {
	Limit  int
	Cursor string
	// TagKey and TagValue are the one tag that the vendor filters by.
	TagKey, TagValue string
}

// Page is a part of a listing.
type Page struct {
	Sandboxes  []Sandbox `json:"sandboxes"`
	Pagination struct {
		Next string `json:"next"`
	} `json:"pagination"`
}

// RunRequest starts a command.
type RunRequest struct {
	Command string   `json:"command"`
	Args    []string `json:"args"`
	// Env must be there, if empty: the vendor's own client always sends it.
	Env map[string]string `json:"env"`
	// Sudo runs it as root.
	Sudo bool `json:"sudo"`
	// Wait and Logs make the answer a stream.
	Wait bool `json:"wait"`
	Logs bool `json:"logs"`
}

// Command is a command that was started; ExitCode is nil until it ended.
type Command struct {
	ID       string `json:"id"`
	ExitCode *int   `json:"exitCode"`
}
