package files

import (
	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// volumes are the cases about storage that outlives sandboxes.
func volumes() []engine.Case {
	needs := []string{"volume", "mount.volume"}
	return []engine.Case{
		{
			ID: "volume/outlives", Title: "What a sandbox writes to a volume is there for the next one, when the first is gone.",
			Profile: engine.Files, Requirements: []string{"REQ-VOL-001", "REQ-MNT-001"}, Needs: needs, Cost: 15,
			Run: volumeOutlives,
		},
		{
			ID: "volume/shared", Title: "Two sandboxes that mount a volume see each other's writes; one that mounts it read-only cannot write.",
			Profile: engine.Files, Requirements: []string{"REQ-VOL-001", "REQ-MNT-001"}, Needs: needs, Cost: 15,
			Run: volumeShared,
		},
		{
			ID: "volume/in-use", Title: "A volume that a sandbox mounts is not deleted; when the sandbox is gone it is.",
			Profile: engine.Files, Requirements: []string{"REQ-VOL-001"}, Needs: needs, Cost: 10,
			Run: volumeInUse,
		},
		{
			ID: "volume/overlay", Title: "Writes to an overlay of a volume stay in the sandbox.",
			Profile: engine.Files, Requirements: []string{"REQ-MNT-001"}, Needs: append([]string{"mount.overlay"}, needs...), Cost: 15,
			Run: volumeOverlay,
		},
		{
			ID: "volume/listed", Title: "Volumes are listed for their owner alone, with their labels; making one that exists is refused or gives it, and deleting an absent one is a success.",
			Profile: engine.Files, Requirements: []string{"REQ-VOL-001", "REQ-VOL-002"}, Needs: needs[:1], Cost: 1,
			Kinds: []subject.Kind{subject.Binary, subject.InProcess},
			Run:   volumeListed,
		},
	}
}

// newVolume makes a volume with a name of its own.
func newVolume(t *engine.T) string {
	name := "v-" + stage.NewID("x")[2:]
	_, err := t.Client().CreateVolume(t.Context(), &providerv1.CreateVolumeRequest{Owner: t.Owner(), Name: name, Labels: map[string]string{"kind": "a label"}})
	stage.OK(t, "CreateVolume", err)
	return name
}

// at mounts a volume.
func at(target, volume string, mode providerv1.MountMode) func(*providerv1.CreateSandboxRequest) {
	return func(req *providerv1.CreateSandboxRequest) {
		req.Spec.Mounts = append(req.Spec.Mounts, &providerv1.Mount{Target: target, Source: &providerv1.Mount_Volume{Volume: volume}, Mode: mode})
	}
}

const (
	ro      = providerv1.MountMode_MOUNT_MODE_RO
	rw      = providerv1.MountMode_MOUNT_MODE_RW
	overlay = providerv1.MountMode_MOUNT_MODE_OVERLAY
)

func volumeOutlives(t *engine.T) {
	volume := newVolume(t)
	first := stage.Create(t, at("/data", volume, rw))
	first.Sh("mkdir /data/d && echo kept > /data/d/file").Code(0)
	first.Delete()
	second := stage.Create(t, at("/elsewhere", volume, rw))
	if got := second.Line("cat /elsewhere/d/file"); got != "kept" {
		t.Errorf("the next sandbox reads %q: want %q", got, "kept")
	}
}

func volumeShared(t *engine.T) {
	volume := newVolume(t)
	one, two := stage.Create(t, at("/data", volume, rw)), stage.Create(t, at("/data", volume, ro))
	one.Sh("echo seen > /data/file").Code(0)
	stage.Eventually(t, t.Slowly(patience), "the second sandbox to see what the first wrote", func(ctx) bool {
		return string(two.Sh("cat /data/file 2>/dev/null").Stdout) == "seen\n"
	})
	if out := two.Sh("echo no > /data/file"); out.Exit.GetCode() == 0 {
		t.Errorf("a command wrote to a volume that is mounted read-only: want it refused")
	}
	if got := one.Line("cat /data/file"); got != "seen" {
		t.Errorf("after a write through a read-only mount the file is %q: want it as it was", got)
	}
}

func volumeInUse(t *engine.T) {
	volume := newVolume(t)
	box := stage.Create(t, at("/data", volume, rw))
	remove := func() error {
		_, err := t.Client().DeleteVolume(t.Context(), &providerv1.DeleteVolumeRequest{Owner: t.Owner(), Name: volume})
		return err
	}
	f := stage.Refused(t, "DeleteVolume of one that is mounted", remove(), providerv1.ErrorReason_ERROR_REASON_OBJECT_IN_USE)
	stage.NoEffect(t, "DeleteVolume", f)
	box.Sh("echo fine > /data/file").Code(0)
	box.Delete()
	stage.OK(t, "DeleteVolume when nothing mounts it any more", remove())
}

func volumeOverlay(t *engine.T) {
	volume := newVolume(t)
	source := stage.Create(t, at("/data", volume, rw))
	source.Sh("echo original > /data/file").Code(0)
	box := stage.Create(t, at("/data", volume, overlay))
	box.Sh("echo changed > /data/file; echo new > /data/new; cat /data/file").Out("changed\n")
	if got := source.Line("cat /data/file; ls /data"); got != "original\nfile" {
		t.Errorf("after writes to an overlay the volume is %q: want it as it was", got)
	}
}

func volumeListed(t *engine.T) {
	volume := newVolume(t)
	list := func(owner string) []*providerv1.Volume {
		resp, err := t.Client().ListVolumes(t.Context(), &providerv1.ListVolumesRequest{Owner: owner})
		stage.OK(t, "ListVolumes", err)
		return resp.GetVolumes()
	}
	got := list(t.Owner())
	if len(got) != 1 || got[0].GetName() != volume || got[0].GetOwner() != t.Owner() || got[0].GetLabels()["kind"] != "a label" {
		t.Errorf("ListVolumes gives %v: want %s alone, with its owner and label", got, volume)
	}
	if n := len(list(t.Owner() + "-other")); n != 0 {
		t.Errorf("another owner has %d volumes: want none", n)
	}
	for _, absent := range []bool{false, true} {
		resp, err := t.Client().DeleteVolume(t.Context(), &providerv1.DeleteVolumeRequest{Owner: t.Owner(), Name: volume})
		stage.OK(t, "DeleteVolume", err)
		if resp.GetAlreadyAbsent() != absent {
			t.Errorf("DeleteVolume says already_absent=%v: want %v", resp.GetAlreadyAbsent(), absent)
		}
	}
	_, err := t.Client().CreateSandbox(t.Context(), with(t, at("/data", volume, rw)))
	stage.Refused(t, "CreateSandbox with a volume that does not exist", err, providerv1.ErrorReason_ERROR_REASON_VOLUME_NOT_FOUND)
}

func with(t *engine.T, change func(*providerv1.CreateSandboxRequest)) *providerv1.CreateSandboxRequest {
	req := stage.NewRequest(t)
	change(req)
	return req
}
