package handshake

import (
	"encoding/json"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/pattern"
)

// Manifest is what a plugin binary says about itself without being served.
type Manifest struct {
	// ProtocolMajors lists the majors it can serve.
	ProtocolMajors []int
	// Describe is the answer its Describe gives before Configure.
	Describe *providerv1.DescribeResponse
}

// majorsKey is the one JSON field that is not a field of DescribeResponse.
const majorsKey = "protocol_majors"

// Encode returns the manifest as one JSON object: the fields of DescribeResponse
// under their proto names, and protocol_majors.
func (m Manifest) Encode() ([]byte, error) {
	describe, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m.Describe)
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(describe, &fields); err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	if fields[majorsKey], err = json.Marshal(m.ProtocolMajors); err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	out, err := json.MarshalIndent(fields, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return append(out, '\n'), nil
}

// DecodeManifest reads what Encode wrote. Fields of a newer minor are ignored.
func DecodeManifest(data []byte) (Manifest, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return Manifest{}, fmt.Errorf("manifest is not a JSON object: %w", err)
	}
	m := Manifest{Describe: &providerv1.DescribeResponse{}}
	if raw, ok := fields[majorsKey]; ok {
		if err := json.Unmarshal(raw, &m.ProtocolMajors); err != nil {
			return Manifest{}, fmt.Errorf("manifest field %s: %w", majorsKey, err)
		}
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, m.Describe); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	if name := m.Describe.GetName(); !ValidName(name) {
		return Manifest{}, fmt.Errorf("manifest field name is %q: want %s", name, NamePattern)
	}
	if !slices.Contains(m.ProtocolMajors, ProtocolMajor) {
		return Manifest{}, fmt.Errorf("manifest field %s is %v: want one that holds %d", majorsKey, m.ProtocolMajors, ProtocolMajor)
	}
	return m, nil
}

// NamePattern is what a provider may be called.
const NamePattern = "[a-z][a-z0-9-]{0,31}"

var nameRE = pattern.Lazy("^" + NamePattern + "$")

// ValidName reports whether a provider may be called name.
func ValidName(name string) bool { return nameRE().MatchString(name) }
