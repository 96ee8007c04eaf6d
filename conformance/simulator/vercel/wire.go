package vercel

import (
	"encoding/json"
	"net/http"
)

// The shapes of answers are those of validators.ts [S]; what is optional there and
// unknown here is left out.

type wireSandbox struct {
	Name              string            `json:"name"`
	Persistent        bool              `json:"persistent"`
	Region            string            `json:"region"`
	FailoverRegions   []string          `json:"failoverRegions,omitempty"`
	VCPUs             int64             `json:"vcpus"`
	Memory            int64             `json:"memory"`
	Runtime           string            `json:"runtime,omitempty"`
	Image             string            `json:"image,omitempty"`
	Timeout           int64             `json:"timeout"`
	NetworkPolicy     any               `json:"networkPolicy,omitempty"`
	CreatedAt         int64             `json:"createdAt"`
	UpdatedAt         int64             `json:"updatedAt"`
	CurrentSessionID  string            `json:"currentSessionId"`
	CurrentSnapshotID string            `json:"currentSnapshotId,omitempty"`
	Status            string            `json:"status"`
	StatusUpdatedAt   int64             `json:"statusUpdatedAt"`
	CWD               string            `json:"cwd"`
	Tags              map[string]string `json:"tags,omitempty"`
}

type wireSession struct {
	ID               string `json:"id"`
	Memory           int64  `json:"memory"`
	VCPUs            int64  `json:"vcpus"`
	Region           string `json:"region"`
	Runtime          string `json:"runtime,omitempty"`
	Timeout          int64  `json:"timeout"`
	Status           string `json:"status"`
	RequestedAt      int64  `json:"requestedAt"`
	StartedAt        int64  `json:"startedAt,omitempty"`
	RequestedStopAt  int64  `json:"requestedStopAt,omitempty"`
	StoppedAt        int64  `json:"stoppedAt,omitempty"`
	AbortedAt        int64  `json:"abortedAt,omitempty"`
	SnapshottedAt    int64  `json:"snapshottedAt,omitempty"`
	Duration         int64  `json:"duration,omitempty"`
	SourceSnapshotID string `json:"sourceSnapshotId,omitempty"`
	CreatedAt        int64  `json:"createdAt"`
	CWD              string `json:"cwd"`
	UpdatedAt        int64  `json:"updatedAt"`
	NetworkPolicy    any    `json:"networkPolicy,omitempty"`
}

type wireRoute struct {
	URL       string `json:"url"`
	Subdomain string `json:"subdomain"`
	Port      int    `json:"port"`
}

type wireCommand struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	Args       []string `json:"args"`
	CWD        string   `json:"cwd"`
	SessionID  string   `json:"sessionId"`
	ExitCode   *int     `json:"exitCode"`
	DurationMS *int64   `json:"durationMs,omitempty"`
	StartedAt  int64    `json:"startedAt"`
}

type wireSnapshot struct {
	ID              string `json:"id"`
	SourceSessionID string `json:"sourceSessionId"`
	Region          string `json:"region"`
	Status          string `json:"status"`
	SizeBytes       int64  `json:"sizeBytes"`
	ExpiresAt       int64  `json:"expiresAt,omitempty"`
	CreatedAt       int64  `json:"createdAt"`
	UpdatedAt       int64  `json:"updatedAt"`
	ParentID        string `json:"parentId,omitempty"`
}

type wirePagination struct {
	Count int     `json:"count"`
	Next  *string `json:"next"`
}

// problem is an answer that is no success: {error: {code, message}} [S].
type problem struct {
	status  int
	code    string
	message string
	// more stands beside code and message.
	more map[string]any
}

func (p *problem) Error() string { return p.code + ": " + p.message }

func refuse(status int, code, message string) *problem {
	return &problem{status: status, code: code, message: message}
}

// badRequest is what the mock answers to what it does not accept [M].
func badRequest(message string) *problem {
	return refuse(http.StatusBadRequest, "bad_request", message)
}

func notFound(message string) *problem { return refuse(http.StatusNotFound, "not_found", message) }

func notSimulated(what string) *problem {
	return refuse(http.StatusNotImplemented, "not_simulated", "the simulator has no "+what)
}

// answer writes JSON. Nobody can be told when that fails.
func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func (p *problem) write(w http.ResponseWriter) {
	fields := map[string]any{"code": p.code, "message": p.message}
	for name, value := range p.more {
		fields[name] = value
	}
	answer(w, p.status, map[string]any{"error": fields})
}
