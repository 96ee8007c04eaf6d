package sdk_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	notFound  = providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND
	keyReused = providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED
)

func byKey(op *providerv1.Operation) *providerv1.GetSandboxRequest {
	return &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_IdempotencyKey{IdempotencyKey: op.GetIdempotencyKey()}}
}

// serveState serves d with a state folder, as a plugin that was just started.
func serveState(t *testing.T, d sdk.Driver, state string) providerv1.ProviderServiceClient {
	t.Helper()
	client, _ := serveDriver(t, d, sdk.Options{})
	if _, err := client.Configure(within(t, patience), &providerv1.ConfigureRequest{StateDir: state}); err != nil {
		t.Fatal(err)
	}
	return client
}

// TestDeniedKeysMakeNothing: whatever the driver does about keys, and it does
// nothing, what was said to make nothing makes nothing, in this process and the
// next.
func TestDeniedKeysMakeNothing(t *testing.T) {
	state, d := t.TempDir(), newTiny("egress.deny")
	req := createRequest("sbx_1")
	client := serveState(t, d, state)
	for range 2 {
		_, err := client.GetSandbox(within(t, patience), byKey(req.GetOperation()))
		wantReason(t, err, notFound)
	}
	for range 2 {
		before := d.count()
		_, err := client.CreateSandbox(within(t, patience), req)
		if got := wantReason(t, err, keyReused); got.Effect != providerv1.Effect_EFFECT_NONE || d.count() != before {
			t.Errorf("effect %v after %d calls of the driver: want none after none", got.Effect, d.count()-before)
		}
		client = serveState(t, d, state)
	}
	for _, other := range []*providerv1.CreateSandboxRequest{createRequest("sbx_2"), {Operation: operation("other"), Identity: req.GetIdentity()}} {
		if _, err := client.CreateSandbox(within(t, patience), other); err != nil {
			t.Errorf("with another key: %v", err)
		}
	}
	if _, err := client.GetSandbox(within(t, patience), byKey(createRequest("sbx_2").GetOperation())); err != nil {
		t.Errorf("a key that made something: %v", err)
	}
}

// TestDeniedKeysAreForgottenAfterADay starts a plugin on a denial that is as old.
func TestDeniedKeysAreForgottenAfterADay(t *testing.T) {
	state, req := t.TempDir(), createRequest("sbx_1")
	_, err := serveState(t, newTiny("egress.deny"), state).GetSandbox(within(t, patience), byKey(req.GetOperation()))
	wantReason(t, err, notFound)
	noted := filepath.Join(state, ".sandbar", "denied-keys", req.GetOperation().GetIdempotencyKey())
	old := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(noted, old, old); err != nil {
		t.Fatal(err)
	}
	if _, err := serveState(t, newTiny("egress.deny"), state).CreateSandbox(within(t, patience), req); err != nil {
		t.Errorf("after a day: %v", err)
	}
	if _, err := os.Stat(noted); !os.IsNotExist(err) {
		t.Errorf("%s: %v, want it gone", noted, err)
	}
}

// makingSlowly is a driver whose CreateSandbox waits for release, and which says
// when it is asked for a sandbox.
func makingSlowly(t *testing.T) (client providerv1.ProviderServiceClient, creating, asked, release chan struct{}) {
	t.Helper()
	d := newTiny("egress.deny")
	creating, asked, release = make(chan struct{}), make(chan struct{}, 9), make(chan struct{})
	d.hook = func(_ context.Context, method string) error {
		switch method {
		case "CreateSandbox":
			close(creating)
			<-release
		case "GetSandbox":
			asked <- struct{}{}
		}
		return nil
	}
	return serveState(t, d, t.TempDir()), creating, asked, release
}

// TestKeyIsNotDeniedWhileItMakesSomething: that there is nothing yet is not that
// there will be nothing.
func TestKeyIsNotDeniedWhileItMakesSomething(t *testing.T) {
	client, creating, asked, release := makingSlowly(t)
	req, made := createRequest("sbx_1"), make(chan error, 1)
	go func() {
		_, err := client.CreateSandbox(within(t, patience), req)
		made <- err
	}()
	<-creating
	_, err := client.GetSandbox(within(t, 100*time.Millisecond), byKey(req.GetOperation()))
	if err == nil || fault.From(err).Reason == notFound {
		t.Errorf("while it is being made: %v, want an error that says nothing about it", err)
	}
	select {
	case <-asked: // unless it did not get that far
	default:
	}
	go func() {
		<-asked
		close(release)
	}()
	got, err := client.GetSandbox(within(t, patience), byKey(req.GetOperation()))
	if err != nil || got.GetSandbox().GetIdentity().GetSandboxId() != "sbx_1" {
		t.Errorf("%v, %v: want the sandbox, once it is made", got, err)
	}
	if err := <-made; err != nil {
		t.Errorf("CreateSandbox beside the question: %v", err)
	}
}

// TestKeyOfACallThatWasGivenUpIsNotDenied: its caller has gone, the driver is
// still at it.
func TestKeyOfACallThatWasGivenUpIsNotDenied(t *testing.T) {
	client, creating, asked, release := makingSlowly(t)
	req := createRequest("sbx_1")
	ctx, giveUp := context.WithCancel(within(t, patience))
	go func() {
		<-creating
		giveUp()
	}()
	if _, err := client.CreateSandbox(ctx, req); err == nil {
		t.Fatal("a call that was given up succeeded")
	}
	go func() {
		<-asked
		close(release)
	}()
	if _, err := client.GetSandbox(within(t, patience), byKey(req.GetOperation())); err != nil {
		t.Errorf("%v: want the sandbox that was made after all", err)
	}
}

func TestStateFolderThatCannotHoldDeniedKeysIsRefused(t *testing.T) {
	state := t.TempDir()
	if err := os.WriteFile(filepath.Join(state, ".sandbar"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	client, _ := serveDriver(t, newTiny("egress.deny"), sdk.Options{})
	_, err := client.Configure(within(t, patience), &providerv1.ConfigureRequest{StateDir: state})
	wantReason(t, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
}
