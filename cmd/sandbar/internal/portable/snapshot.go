package portable

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Media types of a snapshot. The layer has the one that OCI gives to tar.
const (
	ArtifactType = "application/vnd.sandbar.snapshot.v1"
	ConfigType   = "application/vnd.sandbar.snapshot.config.v1+json"
)

// Snapshot is what a snapshot says about itself.
type Snapshot struct {
	Source Source `json:"source"`
	// Create is what to ask a broker for: image, size, names of variables, labels and
	// the like, in the JSON of CreateSandboxRequest. It holds no value of a variable.
	Create json.RawMessage `json:"create"`
	// Env names the variables of the sandbox, whose values are not here.
	Env []string `json:"env"`
	Statement
}

// Source is where the files are from.
type Source struct {
	SandboxID string `json:"sandbox_id"`
	Name      string `json:"name,omitempty"`
	Provider  string `json:"provider"`
}

// Statement says what came along and what did not.
type Statement struct {
	// Kept is in the words of the contract. Only files are ever portable.
	Kept Kept `json:"kept"`
	// Paths are absolute and sorted, none below another. Each came along with all that
	// is below it and can be in a layer.
	Paths []string `json:"paths"`
	// Changes is set if the paths are what the provider said that the sandbox had
	// changed, not what somebody named.
	Changes bool `json:"changes"`
	Count
	// Tree is a digest of names, kinds, modes and content, whatever their order.
	Tree string `json:"tree"`
	Left []Left `json:"left"`
}

// Kept has the fields of the contract's Keeps.
type Kept struct {
	Disk      bool `json:"disk"`
	Memory    bool `json:"memory"`
	Processes bool `json:"processes"`
}

// Count counts entries of a layer. Bytes are those of files, of one with several
// names once.
type Count struct {
	Files   int64 `json:"files"`
	Folders int64 `json:"folders"`
	Links   int64 `json:"links"`
	Bytes   int64 `json:"bytes"`
}

// Left is one thing that did not come along.
type Left struct {
	// What is one word, such as memory.
	What string `json:"what"`
	// Why is a sentence for people.
	Why string `json:"why"`
	// Names are some of what it is about; Total is how many there are.
	Names []string `json:"names,omitempty"`
	Total int      `json:"total,omitempty"`
}

// maxNames is how many names a Left has at most: the rest is counted.
const maxNames = 20

// NewLeft returns a Left about some names.
func NewLeft(what, why string, names ...string) Left {
	return Left{What: what, Why: why, Names: slices.Clone(names[:min(len(names), maxNames)]), Total: len(names)}
}

// Never is what never comes along; running is how many commands were under way.
func Never(running int) []Left {
	processes := "processes stay behind, with their open files, timers, connections and listening ports"
	if running > 0 {
		processes = fmt.Sprintf("%d commands were running; %s", running, processes)
	}
	return []Left{
		NewLeft("memory", "what processes held in memory stays behind"),
		NewLeft("processes", processes),
		NewLeft("attributes", "extended attributes and access control lists of files stay behind"),
	}
}

// Need refuses a minimum that no portable snapshot can keep.
func Need(minimum *providerv1.Keeps) error {
	for _, k := range []struct {
		name  string
		asked bool
	}{{"processes", minimum.GetProcesses()}, {"memory", minimum.GetMemory()}} {
		if k.asked {
			return fault.New(providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED,
				"%s cannot be carried from one provider to another, only files can; `sandbar snapshot create --require %s` keeps them on the provider", k.name, k.name).
				With("keeps", k.name)
		}
	}
	return nil
}

// createJSON names fields as the contract does.
var createJSON = protojson.MarshalOptions{UseProtoNames: true}

// Describe sets Create and Env from what a sandbox was asked for. The caller has
// taken out what cannot be had elsewhere.
func (s *Snapshot) Describe(req *brokerv1.CreateSandboxRequest) error {
	s.Env = []string{}
	for name := range req.GetSpec().GetEnv() {
		s.Env = append(s.Env, name)
	}
	slices.Sort(s.Env)
	if req.GetSpec() != nil {
		req.Spec.Env = nil
	}
	raw, err := createJSON.Marshal(req)
	if err != nil {
		return fmt.Errorf("encode what to create: %w", err)
	}
	s.Create, err = compact(raw)
	return err
}

// Request returns what to ask a broker for.
func (s *Snapshot) Request() (*brokerv1.CreateSandboxRequest, error) {
	req := &brokerv1.CreateSandboxRequest{}
	if err := protojson.Unmarshal(s.Create, req); err != nil {
		return nil, damaged("its config says to create something that this version does not know: %v", err)
	}
	return req, nil
}

// check refuses a statement that cannot be true.
func (s *Snapshot) check() error {
	switch {
	case s.Kept != (Kept{Disk: true}):
		return damaged("it claims to keep more or less than files")
	case !slices.IsSorted(s.Paths):
		return damaged("its paths are not sorted")
	case s.Files < 0 || s.Folders < 0 || s.Links < 0 || s.Bytes < 0:
		return damaged("it counts less than nothing")
	}
	for i, p := range s.Paths {
		if err := CheckPath(p); err != nil {
			return damaged("its path %q is none to unpack at: %v", p, err)
		}
		if i > 0 && below(p, s.Paths[i-1]) {
			return damaged("its path %q is below its path %q", p, s.Paths[i-1])
		}
	}
	return nil
}

// CheckPath refuses paths that cannot be carried: those that are not absolute and
// clean, the root, and the kernel's own.
func CheckPath(p string) error {
	switch {
	case !strings.HasPrefix(p, "/") || cleaned(p[1:]) != p[1:]:
		return errors.New("want an absolute path without . and .. elements")
	case p == "/":
		return errors.New("the root file system belongs to the image; want folders and files in it")
	}
	for _, kernel := range []string{"/proc", "/sys", "/dev"} {
		if below(p, kernel) {
			return errors.New("it is the kernel's, not a file that can be carried")
		}
	}
	return nil
}

// below reports whether p is dir or is in it.
func below(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// damaged is a snapshot that is not what it should be.
func damaged(format string, args ...any) error {
	f := fault.New(providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID, format, args...).With(fault.MetaField, "snapshot")
	f.Message = "the snapshot is damaged or none of Sandbar's: " + f.Message
	return f
}
