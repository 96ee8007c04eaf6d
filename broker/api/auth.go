package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"time"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// Authenticator says who makes a request. The error is a fault.
type Authenticator func(*http.Request) (authz.Principal, error)

// localUser is for handlers that only the local user reaches.
func localUser(*http.Request) (authz.Principal, error) {
	return authz.Local(strconv.Itoa(os.Getuid())), nil
}

// gate is the one place where calls are let in: each is somebody's, and that one
// may make it.
type gate struct {
	auth   Authenticator
	access Access
	log    *slog.Logger
}

// healthz needs a credential like every request, but no permission.
const healthz = "/healthz"

// guard refuses before a request's body is read, in the protocol the client
// speaks. What it lets through has the caller in its context.
func (g gate) guard(next http.Handler) http.Handler {
	errs := connect.NewErrorWriter()
	if g.auth == nil {
		g.auth = localUser
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := g.admit(r)
		if err != nil {
			g.tell(r, who, err)
			refuse(errs, w, r, err)
			return
		}
		ctx, stop := g.within(authz.With(r.Context(), who), r.URL.Path, who)
		defer stop()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// tell notes a refusal. Strangers can make any number of those, so they are not
// worth a line unless somebody looks for them.
func (g gate) tell(r *http.Request, who authz.Principal, err error) {
	level := slog.LevelInfo
	if who.ID == "" {
		level = slog.LevelDebug
	}
	g.log.Log(r.Context(), level, "call is refused", "procedure", r.URL.Path, "caller", who, "error", err)
}

func refuse(errs *connect.ErrorWriter, w http.ResponseWriter, r *http.Request, err error) {
	if errs.IsSupported(r) {
		_ = errs.Write(w, r, wireError(err)) // the client has left if it fails
		return
	}
	status := http.StatusUnauthorized
	switch connect.CodeOf(wireError(err)) {
	case connect.CodePermissionDenied:
		status = http.StatusForbidden
	case connect.CodeUnavailable, connect.CodeInternal:
		status = http.StatusServiceUnavailable
	case connect.CodeInvalidArgument:
		status = http.StatusBadRequest
	}
	http.Error(w, err.Error(), status)
}

// admit says who makes a request and for which tenant, or refuses it.
func (g gate) admit(r *http.Request) (authz.Principal, error) {
	who, err := g.auth(r)
	if err != nil || r.URL.Path == healthz {
		return who, err
	}
	if who, err = authz.Admit(who, r.URL.Path, r.Header.Get(authz.TenantHeader)); err != nil {
		return who, err
	}
	if who.Acting != who.Tenant && g.access != nil { // the caller's own was there when it was recognized
		err = g.access.CheckTenant(r.Context(), who.Acting)
	}
	return who, err
}

// writeGrace is how long a client that does not read has to take in why its
// stream ends.
const writeGrace = 5 * time.Second

// within returns a context that ends with the caller's credential, if the call may
// be open for long. Whatever waits for the client then returns.
func (g gate) within(ctx context.Context, procedure string, who authz.Principal) (_ context.Context, stop func()) {
	call, _ := authz.Lookup(procedure)
	if g.access == nil || !call.Streams || who.Kind == brokerv1.CallerKind_CALLER_KIND_LOCAL {
		return ctx, func() {}
	}
	ctx, unwatch := g.access.Watch(ctx, who)
	controller := controllerOf(ctx)
	hooked := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(hooked)
		if credentialEnded(ctx) == nil {
			return // the client left, or the call is done
		}
		// They fail only where there are no deadlines, and so no streams both ways.
		_ = controller.SetReadDeadline(time.Unix(1, 0))
		_ = controller.SetWriteDeadline(time.Now().Add(writeGrace))
	})
	return ctx, func() {
		if !unhook() {
			<-hooked // the deadlines are the request's, which ends now
		}
		unwatch()
	}
}

// credentialEnded is why a call was ended before its time; nil if it was not, or
// not because of its caller's credential.
func credentialEnded(ctx context.Context) error {
	var f *fault.Error
	if cause := context.Cause(ctx); errors.As(cause, &f) {
		return f
	}
	return nil
}
