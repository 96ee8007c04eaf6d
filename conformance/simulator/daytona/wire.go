package daytona

import (
	"encoding/json"
	"net/http"
	"time"
)

// wireSandbox is a sandbox as it is shown [S].
type wireSandbox struct {
	ID                  string            `json:"id"`
	OrganizationID      string            `json:"organizationId"`
	Name                string            `json:"name"`
	Snapshot            string            `json:"snapshot,omitempty"`
	User                string            `json:"user"`
	Env                 map[string]string `json:"env"`
	Labels              map[string]string `json:"labels"`
	Public              bool              `json:"public"`
	NetworkBlockAll     bool              `json:"networkBlockAll"`
	NetworkAllowList    string            `json:"networkAllowList,omitempty"`
	DomainAllowList     string            `json:"domainAllowList,omitempty"`
	Target              string            `json:"target"`
	CPU                 int64             `json:"cpu"`
	GPU                 int64             `json:"gpu"`
	Memory              int64             `json:"memory"`
	Disk                int64             `json:"disk"`
	State               string            `json:"state"`
	DesiredState        string            `json:"desiredState"`
	ErrorReason         string            `json:"errorReason,omitempty"`
	Recoverable         bool              `json:"recoverable"`
	BackupState         string            `json:"backupState"`
	AutoStopInterval    int64             `json:"autoStopInterval"`
	AutoArchiveInterval int64             `json:"autoArchiveInterval"`
	AutoDeleteInterval  int64             `json:"autoDeleteInterval"`
	AutoDestroyAt       *time.Time        `json:"autoDestroyAt,omitempty"`
	CreatedAt           time.Time         `json:"createdAt"`
	UpdatedAt           time.Time         `json:"updatedAt"`
	LastActivityAt      time.Time         `json:"lastActivityAt"`
	SandboxClass        string            `json:"sandboxClass"`
	ToolboxProxyURL     string            `json:"toolboxProxyUrl"`
}

// problem is an answer that is no success.
type problem struct {
	status  int
	code    string
	message string
	// toolbox says whose shape it has.
	toolbox bool
}

func (p *problem) Error() string { return p.message }

func refuse(status int, message string) *problem { return &problem{status: status, message: message} }

// badRequest is how the control API calls what is wrong with a request, with quotas,
// and with the state that a sandbox is in [O].
func badRequest(message string) *problem { return refuse(http.StatusBadRequest, message) }

func noSandbox(idOrName string) *problem {
	return refuse(http.StatusNotFound, "Sandbox with ID or name "+idOrName+" not found") // [O]
}

// inProgress is for a change of state while another is under way [O].
func inProgress() *problem {
	return refuse(http.StatusConflict, "Sandbox state change in progress")
}

func notSimulated(what string) *problem {
	return &problem{status: http.StatusNotImplemented, code: "NOT_SIMULATED", message: "the simulator has no " + what}
}

// write answers in the shape of the control API [S, O], or of the toolbox [S].
func (p *problem) write(w http.ResponseWriter, r *http.Request) {
	body := map[string]any{"path": r.URL.RequestURI(), "timestamp": time.Now().UTC(), "statusCode": p.status, "message": p.message}
	if p.code != "" {
		body["code"] = p.code
	}
	if p.toolbox {
		body["path"], body["method"], body["source"] = r.URL.Path, r.Method, "DAYTONA_DAEMON"
	} else {
		body["error"] = http.StatusText(p.status)
	}
	answer(w, p.status, body)
}

// answer writes JSON. Nobody can be told when that fails.
func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// read decodes a body; none is an empty one.
func read(r *http.Request, into any) error {
	const most = 8 << 20
	dec := json.NewDecoder(http.MaxBytesReader(nil, r.Body, most))
	if err := dec.Decode(into); err != nil && r.ContentLength != 0 {
		return badRequest("the body is not the JSON that is expected: " + err.Error())
	}
	return nil
}
