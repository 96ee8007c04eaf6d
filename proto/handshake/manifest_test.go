package handshake_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

func TestManifestRoundTrip(t *testing.T) {
	want := handshake.Manifest{ProtocolMajors: []int{handshake.ProtocolMajor}, Describe: &providerv1.DescribeResponse{
		Name: "fake", Vendor: "Sandbar", Version: "1.2.3",
		Capabilities: []*providerv1.Capability{{
			Id: "exec.pty", State: providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED, Limits: map[string]int64{"max_concurrency": 7},
		}},
	}}
	data, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := handshake.DecodeManifest(data)
	if err != nil {
		t.Fatalf("%v in\n%s", err, data)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("round trip (-want +got):\n%s", diff)
	}
}

func TestDecodeManifestRefuses(t *testing.T) {
	for _, tc := range []struct{ name, data, want string }{
		{"text", "usage: x", "not a JSON object"},
		{"no name", `{"protocol_majors":[1]}`, `name is ""`},
		{"path as name", `{"protocol_majors":[1],"name":"../x"}`, `name is "../x"`},
		{"other major", `{"protocol_majors":[2,3],"name":"x"}`, "[2 3]: want one that holds 1"},
		{"majors of a wrong type", `{"protocol_majors":"1","name":"x"}`, "protocol_majors"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := handshake.DecodeManifest([]byte(tc.data))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got error %v, want one with %q", err, tc.want)
			}
		})
	}
	if _, err := handshake.DecodeManifest([]byte(`{"protocol_majors":[1],"name":"x","from_a_newer_minor":true}`)); err != nil {
		t.Errorf("a field of a newer minor must be ignored: %v", err)
	}
}
