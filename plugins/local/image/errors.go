package image

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"

	"github.com/sandbar-dev/sandbar/plugins/local/image/union"
	"github.com/sandbar-dev/sandbar/proto/fault"
)

// diskError is an error of the store's own disk, not of the source.
type diskError struct{ err error }

func (e *diskError) Error() string { return e.err.Error() }
func (e *diskError) Unwrap() error { return e.err }

func disk(err error) error {
	if err == nil {
		return nil
	}
	return &diskError{err}
}

// faultOf is the border: what any step of a pull ran into, as an error of the
// contract. Nothing of a pull that failed is visible, so the effect is none.
func (s *Store) faultOf(err error, ref reference) error {
	if err == nil {
		return nil
	}
	return s.classify(err, ref).WithEffect(providerv1.Effect_EFFECT_NONE)
}

func (s *Store) classify(err error, ref reference) *fault.Error {
	var known *fault.Error
	var status *transport.Error
	var invalid *union.Invalid
	var large *union.TooLarge
	var wrong *corrupt
	var local *diskError
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, context.Canceled):
		return fault.New(providerv1.ErrorReason_ERROR_REASON_CANCELED, "getting image %s was canceled: %w", ref.text, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fault.New(providerv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED,
			"getting image %s took longer than the caller allowed: %w", ref.text, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.New(providerv1.ErrorReason_ERROR_REASON_CAPACITY_EXHAUSTED,
			"no disk space is left for image %s under %s: free some, or remove images that are not in use", ref.text, s.dir).
			With("path", s.dir).With("image", ref.text)
	case errors.As(err, &local):
		return fault.New(providerv1.ErrorReason_ERROR_REASON_HOST_UNSUPPORTED,
			"the image store %s cannot be used: %w", s.dir, err).With("missing", "usable image store").
			With("remedy", "make "+s.dir+" a readable and writable folder on a working disk")
	case errors.As(err, &large):
		return fault.New(providerv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, "image %s is too large: %w", ref.text, large).
			With("limit", "image_"+large.Limit).With("max", formatInt(large.Max))
	case errors.As(err, &invalid):
		return unsatisfiable(ref, "%w", invalid)
	case errors.As(err, &wrong), errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum):
		return protocolError(ref, "%w", err)
	case errors.As(err, &status):
		return statusFault(status, ref)
	}
	return unavailable(ref, err)
}

func unavailable(ref reference, err error) *fault.Error {
	where := ref.text
	if ref.registry != nil {
		where = ref.registry.Context().RegistryStr()
	}
	return fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE,
		"image %s cannot be fetched now from %s: %w", ref.text, where, err).
		With("image", ref.text).With("upstream", where)
}

// statusFault reads a registry's answer.
func statusFault(e *transport.Error, ref reference) *fault.Error {
	host := ref.text
	if ref.registry != nil {
		host = ref.registry.Context().RegistryStr()
	}
	switch e.StatusCode {
	case http.StatusNotFound:
		return notFound(ref, "the registry %s has no such image%s", host, codes(e))
	case http.StatusUnauthorized, http.StatusForbidden:
		return fault.New(providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID,
			"registry %s refused image %s with status %d%s: the credentials for it are missing, wrong or not enough, "+
				"or the repository does not exist (registries answer the same for both)",
			host, ref.text, e.StatusCode, codes(e)).With("image", ref.text).With("upstream", host)
	case http.StatusTooManyRequests:
		return fault.New(providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED,
			"registry %s limits how often images are pulled%s: wait, or pull with credentials", host, codes(e)).
			With("upstream", host).WithRetryAfter(time.Minute)
	case http.StatusMovedPermanently, http.StatusFound, http.StatusBadRequest, http.StatusMethodNotAllowed:
		return fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL,
			"%s does not answer like an image registry: %w", host, e).With("upstream", host)
	}
	return unavailable(ref, e)
}

// codes lists what the registry's error body says, in brackets.
func codes(e *transport.Error) string {
	var all []string
	for _, d := range e.Errors {
		all = append(all, string(d.Code))
	}
	if len(all) == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s)", strings.Join(all, ", "))
}

// worthRetrying reports whether the same request may well succeed in a moment.
func worthRetrying(err error) bool {
	var known *fault.Error
	var local *diskError
	var status *transport.Error
	var lookup *net.DNSError
	switch {
	case errors.As(err, &known), errors.As(err, &local),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.As(err, &status):
		return status.StatusCode >= 500 || status.StatusCode == http.StatusTooManyRequests ||
			status.StatusCode == http.StatusRequestTimeout
	case errors.As(err, &lookup):
		return !lookup.IsNotFound
	}
	return true
}

const attempts = 4

// retry runs f until it succeeds, fails for good, or has failed four times. The
// waits double.
func (s *Store) retry(ctx context.Context, f func() error) error {
	wait := s.opts.RetryWait
	for n := 1; ; n++ {
		err := f()
		if err == nil || n == attempts || !worthRetrying(err) {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		wait *= 2
	}
}
