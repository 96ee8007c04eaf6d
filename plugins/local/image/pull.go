package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"

	"github.com/sandbar-dev/sandbar/proto/fault"
)

// Credentials are what a registry asks for; the zero value is anonymous.
type Credentials struct {
	Username string
	Password string
	// IdentityToken is a refresh token, RegistryToken a bearer token.
	IdentityToken string
	RegistryToken string
}

// PullOptions say how to get an image; the zero value is usable.
type PullOptions struct {
	// Platform is os/architecture[/variant]; empty is linux on this machine's
	// processor.
	Platform string
	// Owner takes a lease on the image, as Lease does, so that it cannot be
	// removed between Pull and its use.
	Owner string
	// Refresh asks the registry even if the store knows the reference. A folder
	// in OCI image layout is always asked.
	Refresh bool
	// Credentials returns what to log in with at a registry, by host[:port].
	// Nil is anonymous everywhere. Its error is the pull's.
	Credentials func(ctx context.Context, registry string) (Credentials, error)
	// InsecureHosts may be spoken to without TLS. Loopback addresses always may.
	InsecureHosts []string
	// Progress is called, not concurrently, as the pull goes on. It must not
	// block.
	Progress func(Progress)
}

// Progress is how far a pull is.
type Progress struct {
	// Layers is 0 until the image is known.
	Layers int
	// LayersDone counts those that are part of the root file system already.
	LayersDone int
	// Bytes of the TotalBytes of compressed layers are in the store.
	Bytes      int64
	TotalBytes int64
}

// flightKey is what two calls must agree on to share one pull.
type flightKey struct {
	ref         string
	platform    string
	insecure    bool
	refresh     bool
	credentials Credentials
}

// flight is a pull that one or more callers wait for.
type flight struct {
	cancel context.CancelFunc
	report reporter
	// waiters is guarded by Store.mu.
	waiters int
	// done is closed when img and err are set.
	done chan struct{}
	img  *Image
	err  error
}

// Pull returns the image behind a reference: a name as `docker pull` takes it, or
// oci-layout:/folder[:tag]. Concurrent calls for the same image share one
// download, which goes on until the last of them is canceled.
//
// Errors: FIELD_INVALID for a malformed reference, IMAGE_NOT_FOUND,
// SPEC_UNSATISFIABLE for an image not made for the platform or no correct image,
// CREDENTIALS_INVALID, RATE_LIMITED, LIMIT_EXCEEDED, CAPACITY_EXHAUSTED for a full
// disk, UPSTREAM_UNAVAILABLE, UPSTREAM_PROTOCOL for content that does not match
// its digest, HOST_UNSUPPORTED for a broken store. All have effect none.
func (s *Store) Pull(ctx context.Context, text string, opts PullOptions) (*Image, error) {
	ref, err := parseReference(text, opts.InsecureHosts)
	if err != nil {
		return nil, err
	}
	img, err := s.pull(ctx, ref, opts)
	return img, s.faultOf(err, ref)
}

func (s *Store) pull(ctx context.Context, ref reference, opts PullOptions) (*Image, error) {
	platform, err := parsePlatform(opts.Platform)
	if err != nil {
		return nil, err
	}
	key := flightKey{ref: ref.text, platform: platformName(platform), refresh: opts.Refresh || ref.layout != nil}
	if ref.registry != nil {
		key.insecure = ref.registry.Context().Scheme() == "http"
		if opts.Credentials != nil {
			if key.credentials, err = opts.Credentials(ctx, ref.registry.Context().RegistryStr()); err != nil {
				return nil, err
			}
		}
	}
	//nolint:contextcheck // a flight outlives the caller that started it
	fl, leave, err := s.board(key, ref, platform, opts.Progress)
	if err != nil {
		return nil, err
	}
	defer leave()
	select {
	case <-fl.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if fl.err != nil {
		return nil, fl.err
	}
	if opts.Owner != "" {
		if err := s.Lease(ctx, fl.img.Digest, opts.Owner); err != nil {
			return nil, err
		}
	}
	img := *fl.img
	img.Ref = ref.text
	return &img, nil
}

// board joins the flight of a key or starts it. The caller must call leave.
func (s *Store) board(key flightKey, ref reference, platform v1.Platform, progress func(Progress)) (*flight, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, errClosed()
	}
	fl := s.inAir[key]
	if fl == nil {
		ctx, cancel := context.WithCancel(s.ctx)
		fl = &flight{cancel: cancel, done: make(chan struct{})}
		s.inAir[key] = fl
		s.flights.Go(func() {
			defer cancel()
			fl.img, fl.err = s.fly(ctx, key, ref, platform, &fl.report)
			s.land(key, fl)
		})
	}
	fl.waiters++
	fl.report.join(progress)
	return fl, func() { s.leave(key, fl) }, nil
}

// land ends a flight: later calls start their own.
func (s *Store) land(key flightKey, fl *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inAir[key] == fl {
		delete(s.inAir, key)
	}
	if fl.img != nil && fl.waiters == 0 {
		s.unpin(fl.img.Digest)
	}
	close(fl.done)
}

// leave ends one caller's wait. The last one to give up cancels the flight, and
// the last one to be served gives up the pin that kept the image.
func (s *Store) leave(key flightKey, fl *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fl.waiters--; fl.waiters > 0 {
		return
	}
	select {
	case <-fl.done:
		if fl.img != nil {
			s.unpin(fl.img.Digest)
		}
	default:
		fl.cancel()
		if s.inAir[key] == fl {
			delete(s.inAir, key)
		}
	}
}

// fly gets an image and pins it; s.mu must be held to unpin.
func (s *Store) fly(ctx context.Context, key flightKey, ref reference, platform v1.Platform, report *reporter) (*Image, error) {
	if !key.refresh {
		if img, err := s.known(key, ref); img != nil || err != nil {
			return img, err
		}
	}
	src := s.source(ref, key.credentials)
	t, err := s.resolve(ctx, src, ref, platform)
	if err != nil {
		return nil, err
	}
	report.start(t.manifest.Layers)
	release, err := s.busy.acquire(ctx, "image "+t.digest.Hex)
	if err != nil {
		return nil, err
	}
	defer release()
	img, err := s.publish(key, t.digest, "")
	if err != nil || img != nil {
		return img, err
	}
	dir, err := s.build(ctx, src, t, report)
	if err != nil {
		return nil, err
	}
	img, err = s.publish(key, t.digest, dir)
	return img, errors.Join(err, disk(os.RemoveAll(dir)))
}

func (s *Store) source(ref reference, c Credentials) source {
	if ref.layout != nil {
		return &layoutSource{ref: ref}
	}
	return &registrySource{ref: ref.registry, auth: c.authenticator(), base: s.transport}
}

// known returns the image the store already has for a reference, pinned, or nil.
func (s *Store) known(key flightKey, ref reference) (*Image, error) {
	var img *Image
	err := s.locked(func() error {
		digest := ""
		if b, err := os.ReadFile(s.tagPath(key)); err == nil {
			var t tag
			if json.Unmarshal(b, &t) == nil {
				digest = t.Digest
			}
		} else if !errors.Is(err, os.ErrNotExist) {
			return disk(err)
		}
		if at := strings.LastIndex(ref.text, "@"); digest == "" && at >= 0 {
			digest = ref.text[at+1:]
		}
		if digest == "" {
			return nil
		}
		found, err := s.load(digest)
		if fault.Has(err, providerv1.ErrorReason_ERROR_REASON_IMAGE_NOT_FOUND) {
			return nil
		}
		if err == nil && found.Platform != key.platform && !strings.HasPrefix(found.Platform, key.platform+"/") {
			return nil
		}
		if img = found; err == nil {
			s.pins[found.Digest]++
			s.touch(found.Digest)
		}
		return err
	})
	return img, err
}

// publish makes the folder dir the image of a digest, notes the reference, and
// returns the image pinned. With dir empty it only does so if the image exists,
// and returns nil if not.
func (s *Store) publish(key flightKey, digest v1.Hash, dir string) (*Image, error) {
	var img *Image
	err := s.locked(func() error {
		_, err := os.Stat(s.imageDir(digest.Hex))
		switch {
		case err == nil: // it is there: by another reference, or made by another process
		case !errors.Is(err, os.ErrNotExist):
			return disk(err)
		case dir == "":
			return nil
		default:
			if err := syncFolder(dir); err != nil {
				return disk(err)
			}
			if err := moveInto(dir, s.imageDir(digest.Hex)); err != nil {
				return disk(err)
			}
		}
		t, err := json.Marshal(tag{Ref: key.ref, Platform: key.platform, Digest: digest.String()})
		if err != nil {
			return err
		}
		if err := s.writeFile(s.tagPath(key), t); err != nil {
			return err
		}
		if img, err = s.load(digest.String()); err == nil {
			s.pins[img.Digest]++
			s.touch(img.Digest)
		}
		return err
	})
	return img, err
}

func (s *Store) tagPath(key flightKey) string {
	sum := sha256.Sum256([]byte(key.ref + "\x00" + key.platform))
	return filepath.Join(s.dir, "refs", hex.EncodeToString(sum[:])+".json")
}

// unpin gives up one pin; s.mu must be held.
func (s *Store) unpin(digest string) {
	if s.pins[digest]--; s.pins[digest] <= 0 {
		delete(s.pins, digest)
	}
}

func errClosed() error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_DRAINING, "the image store is closed")
}

// reporter tells the callers of a flight how far it is.
type reporter struct {
	mu        sync.Mutex
	now       Progress
	listeners []func(Progress)
}

func (r *reporter) join(listener func(Progress)) {
	if listener == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listeners = append(r.listeners, listener)
}

func (r *reporter) update(change func(*Progress)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.now)
	for _, listener := range r.listeners {
		listener(r.now)
	}
}

func (r *reporter) start(layers []v1.Descriptor) {
	r.update(func(p *Progress) {
		p.Layers = len(layers)
		for _, layer := range layers {
			p.TotalBytes += layer.Size
		}
	})
}

func (r *reporter) bytes(n int64) { r.update(func(p *Progress) { p.Bytes += n }) }

func (r *reporter) layerDone() { r.update(func(p *Progress) { p.LayersDone++ }) }
