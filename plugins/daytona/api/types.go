package api

import "time"

// The shapes below are those of openapi-specs/api.json and toolbox.json of the
// vendor's repository github.com/daytona/clients, as far as they are used.

// States of a sandbox.
const (
	Creating         = "creating"
	Restoring        = "restoring"
	Destroyed        = "destroyed"
	Destroying       = "destroying"
	Started          = "started"
	Stopped          = "stopped"
	Starting         = "starting"
	Stopping         = "stopping"
	Failed           = "error"
	BuildFailed      = "build_failed"
	PendingBuild     = "pending_build"
	BuildingSnapshot = "building_snapshot"
	Unknown          = "unknown"
	PullingSnapshot  = "pulling_snapshot"
	Archived         = "archived"
	Archiving        = "archiving"
	Resizing         = "resizing"
	Snapshotting     = "snapshotting"
	Forking          = "forking"
	Pausing          = "pausing"
	Paused           = "paused"
	Resuming         = "resuming"
)

// Sandbox is one as it is shown, in a listing too.
type Sandbox struct {
	ID             string            `json:"id"`
	OrganizationID string            `json:"organizationId"`
	Name           string            `json:"name"`
	Snapshot       string            `json:"snapshot"`
	Labels         map[string]string `json:"labels"`
	Target         string            `json:"target"`
	// CPU is in cores, Memory and Disk are in GiB.
	CPU          float64 `json:"cpu"`
	Memory       float64 `json:"memory"`
	Disk         float64 `json:"disk"`
	State        string  `json:"state"`
	DesiredState string  `json:"desiredState"`
	ErrorReason  string  `json:"errorReason"`
	// AutoDestroyAt is when its time to live ends; zero: never.
	AutoDestroyAt   time.Time `json:"autoDestroyAt"`
	CreatedAt       time.Time `json:"createdAt"`
	ToolboxProxyURL string    `json:"toolboxProxyUrl"`
}

// CreateRequest asks for a sandbox.
type CreateRequest struct {
	Name            string            `json:"name"`
	Snapshot        string            `json:"snapshot,omitempty"`
	Env             map[string]string `json:"env,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	NetworkBlockAll bool              `json:"networkBlockAll"`
	Target          string            `json:"target,omitempty"`
	// AutoStopInterval and AutoDeleteInterval are minutes without activity, and
	// without running. 0 is never, and at once.
	AutoStopInterval   int64 `json:"autoStopInterval"`
	AutoDeleteInterval int64 `json:"autoDeleteInterval"`
	// TTLMinutes is from creation on; 0: no end.
	TTLMinutes int64 `json:"ttlMinutes,omitempty"`
}

// ListQuery picks sandboxes.
type ListQuery struct {
	// Limit is at most 200.
	Limit  int
	Cursor string
	// Labels that a sandbox must have all of.
	Labels map[string]string
}

// Page is a part of a listing, oldest first. The vendor says of its listing that it
// is consistent eventually.
type Page struct {
	Items      []Sandbox `json:"items"`
	NextCursor string    `json:"nextCursor"`
}

// Place is where the toolbox of a sandbox is.
type Place struct {
	// Proxy is the address in Sandbox.ToolboxProxyURL.
	Proxy string
	// ID is the sandbox's.
	ID string
}

// Result is how a command of Execute ended.
type Result struct {
	// ExitCode is -1 if it was not started.
	ExitCode int `json:"exitCode"`
	// Output is standard output and standard error, as text.
	Output string `json:"result"`
}

// Command is one of a session; ExitCode is nil until it ended.
type Command struct {
	ID       string `json:"id"`
	ExitCode *int   `json:"exitCode"`
}

// Headers of a request to a preview: the token, and one without which a browser is
// shown a warning first.
const (
	PreviewToken = "X-Daytona-Preview-Token"        //nolint:gosec // the name of a header
	SkipWarning  = "X-Daytona-Skip-Preview-Warning" //nolint:gosec // likewise
)

// Preview is where a port of a sandbox is reached from outside.
type Preview struct {
	URL string `json:"url"`
	// Token opens it for as long as the sandbox is started.
	Token string `json:"token"`
}
