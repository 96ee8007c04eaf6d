package storetest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func snapshots(t *testing.T, s state.Store) {
	in := &state.Snapshot{
		Body:      &brokerv1.Snapshot{SnapshotId: "snp_1", Tenant: "default", Name: "n", Provider: "p", SandboxId: "sbx_1", CreatedAt: timestamppb.New(start)},
		Operation: &providerv1.Operation{IdempotencyKey: "k", RequestDigest: []byte{1}}, RequestKey: "r",
	}
	check(t, s.InsertSnapshot(t.Context(), &state.Request{Tenant: "default", Key: "r", IDs: []string{"snp_1"}, At: start}, in))
	other := &state.Snapshot{Body: &brokerv1.Snapshot{SnapshotId: "snp_2", Tenant: "default", Name: "n", SandboxId: "sbx_2"}}
	want(t, s.InsertSnapshot(t.Context(), nil, other), state.ErrNameTaken)
	other.Body.Name = ""
	want(t, s.InsertSnapshot(t.Context(), &state.Request{Tenant: "default", Key: "r"}, other), state.ErrKeyTaken)
	check(t, s.InsertSnapshot(t.Context(), nil, other))
	want(t, s.UpdateSnapshot(t.Context(), &state.Snapshot{Body: &brokerv1.Snapshot{SnapshotId: "snp_3"}}), state.ErrNotFound)
	in.Ready, in.Handle, in.Spec = true, &providerv1.Handle{Version: 1}, &providerv1.SandboxSpec{User: "u"}
	check(t, s.UpdateSnapshot(t.Context(), in))
	got, err := s.SnapshotNamed(t.Context(), "default", "n")
	check(t, err)
	if diff := cmp.Diff(in, got, protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	rows, token, err := s.ListSnapshots(t.Context(), state.SnapshotFilter{}, state.Page{Size: 1})
	check(t, err)
	rest, end, err := s.ListSnapshots(t.Context(), state.SnapshotFilter{}, state.Page{Size: 1, Token: token})
	check(t, err)
	if len(rows) != 1 || rows[0].ID() != "snp_2" || len(rest) != 1 || rest[0].ID() != "snp_1" || end != "" {
		t.Errorf("pages are %v and %v", rows, rest)
	}
	open := func(want ...string) {
		t.Helper()
		var got []string
		for token := ""; ; {
			rows, next, err := s.ListSnapshots(t.Context(), state.SnapshotFilter{Open: true}, state.Page{Size: 1, Token: token})
			check(t, err)
			for _, sn := range rows {
				got = append(got, sn.ID())
			}
			if token = next; token == "" {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("open: -want +got:\n%s", diff)
		}
	}
	_, _, err = s.ListSnapshots(t.Context(), state.SnapshotFilter{Open: true}, state.Page{Size: 1, Token: token})
	want(t, err, state.ErrBadToken)
	open("snp_2") // which is not ready
	in.Deleting = true
	check(t, s.UpdateSnapshot(t.Context(), in))
	open("snp_2", "snp_1")
	got, err = s.Snapshot(t.Context(), "snp_1")
	check(t, err)
	if !got.Deleting || !got.Ready || got.View().GetState() != brokerv1.SnapshotState_SNAPSHOT_STATE_DELETING {
		t.Errorf("it is %+v", got)
	}
	in.Deleting = false
	check(t, s.UpdateSnapshot(t.Context(), in))
	open("snp_2")
	check(t, s.RemoveSnapshot(t.Context(), "snp_1"))
	check(t, s.RemoveSnapshot(t.Context(), "snp_1"))
	_, err = s.Snapshot(t.Context(), "snp_1")
	want(t, err, state.ErrNotFound)
	_, err = s.Request(t.Context(), "default", "r")
	want(t, err, state.ErrNotFound)
}
