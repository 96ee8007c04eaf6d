package image

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"

	"github.com/sandbar-dev/sandbar/plugins/local/image/union"
	"github.com/sandbar-dev/sandbar/proto/fault"
)

// Options configure a Store; the zero value is usable.
type Options struct {
	// Log gets what no caller can be told; nil discards it.
	Log *slog.Logger
	// Transport carries requests to registries. The default is net/http's
	// without proxies from the environment.
	Transport http.RoundTripper
	// Downloads bounds how many layers are fetched at once, over all pulls;
	// the default is 4.
	Downloads int
	// Builds bounds how many images are flattened at once; the default is 2.
	Builds int
	// Limits bound one image.
	Limits union.Limits
	// RetryWait is the first wait before a failed request is repeated; the
	// default is 300 ms.
	RetryWait time.Duration
	// Now is the clock of GC; the default is time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Downloads <= 0 {
		o.Downloads = 4
	}
	if o.Builds <= 0 {
		o.Builds = 2
	}
	if o.RetryWait <= 0 {
		o.RetryWait = 300 * time.Millisecond
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Store is a folder of images. Open makes one, Close ends it.
type Store struct {
	dir  string
	opts Options
	// work is this Store's folder in tmp, held by a lock.
	work *workFolder
	// transport is Options.Transport or, then owned, our own.
	transport http.RoundTripper
	owned     *http.Transport

	downloads chan struct{}
	builds    chan struct{}
	// busy has the blobs and images being made, by digest.
	busy keyed
	// ctx ends at Close and with it every flight; flights waits for them.
	//nolint:containedctx // the life of the Store's own goroutines
	ctx     context.Context
	cancel  context.CancelFunc
	flights sync.WaitGroup

	// mu guards what follows and is held while the file lock is: never while
	// waiting for a network.
	mu     sync.Mutex
	closed bool
	inAir  map[flightKey]*flight
	// pins counts flights that have an image which nobody has leased yet.
	pins map[string]int
}

// Open opens the store in dir, which is made with mode 0700 if it is not there,
// and removes what killed processes left in it. The caller must Close it.
func Open(_ context.Context, dir string, opts Options) (*Store, error) {
	s := &Store{dir: dir, opts: opts.withDefaults(), inAir: map[flightKey]*flight{}, pins: map[string]int{}}
	if err := s.open(); err != nil {
		return nil, s.faultOf(disk(err), reference{})
	}
	s.transport = s.opts.Transport
	if s.transport == nil {
		s.owned = &http.Transport{
			ForceAttemptHTTP2: true, MaxIdleConnsPerHost: s.opts.Downloads, IdleConnTimeout: 30 * time.Second,
			TLSHandshakeTimeout: 15 * time.Second, ResponseHeaderTimeout: stallTimeout,
		}
		s.transport = s.owned
	}
	s.downloads = make(chan struct{}, s.opts.Downloads)
	s.builds = make(chan struct{}, s.opts.Builds)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

func (s *Store) open() error {
	if !filepath.IsAbs(s.dir) {
		return errors.New("image store folder " + s.dir + " is not an absolute path")
	}
	for _, sub := range []string{"", "blobs", "images", "refs", "leases", "tmp"} {
		if err := os.MkdirAll(filepath.Join(s.dir, sub), 0o700); err != nil {
			return err
		}
	}
	if err := os.Chmod(s.dir, 0o700); err != nil {
		return err
	}
	return s.locked(func() error {
		if err := sweep(filepath.Join(s.dir, "tmp")); err != nil {
			return err
		}
		work, err := newWorkFolder(filepath.Join(s.dir, "tmp"))
		s.work = work
		return err
	})
}

// Close cancels the pulls in progress, waits for them and removes their work.
func (s *Store) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	s.cancel()
	s.flights.Wait()
	if s.owned != nil {
		s.owned.CloseIdleConnections()
	}
	return s.faultOf(disk(s.work.remove()), reference{})
}

// Get returns an image by manifest digest. It is IMAGE_NOT_FOUND if the store
// does not have it.
func (s *Store) Get(_ context.Context, digest string) (*Image, error) {
	var img *Image
	err := s.locked(func() (err error) {
		img, err = s.load(digest)
		return err
	})
	return img, s.faultOf(err, reference{text: digest})
}

// List returns all images, by digest. One whose record cannot be read is left
// out and logged.
func (s *Store) List(_ context.Context) ([]*Image, error) {
	var images []*Image
	err := s.locked(func() (err error) {
		images, err = s.all()
		return err
	})
	return images, s.faultOf(err, reference{})
}

func (s *Store) imageDir(hex string) string { return filepath.Join(s.dir, "images", hex) }

// load reads an image and its references; s.mu must be held.
func (s *Store) load(digest string) (*Image, error) {
	hash, err := v1.NewHash(digest)
	if err != nil || hash.Algorithm != "sha256" {
		return nil, fault.Field("digest", digest, "sha256:<64 hex digits>")
	}
	img, err := loadImage(s.imageDir(hash.Hex))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_IMAGE_NOT_FOUND,
			"the store has no image %s", digest).With("image", digest)
	}
	if err != nil {
		return nil, disk(err)
	}
	tags, err := s.tags()
	if err != nil {
		return nil, err
	}
	return img.withRefs(tags), nil
}

// all reads every image; s.mu must be held.
func (s *Store) all() ([]*Image, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "images"))
	if err != nil {
		return nil, disk(err)
	}
	tags, err := s.tags()
	if err != nil {
		return nil, err
	}
	var images []*Image
	for _, e := range entries {
		img, err := loadImage(s.imageDir(e.Name()))
		if err != nil {
			s.opts.Log.Warn("image record is unreadable", "image", e.Name(), "error", err)
			continue
		}
		images = append(images, img.withRefs(tags))
	}
	return images, nil
}

// tags reads all of refs; s.mu must be held.
func (s *Store) tags() ([]tag, error) {
	dir := filepath.Join(s.dir, "refs")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, disk(err)
	}
	var tags []tag
	for _, e := range entries {
		var t tag
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err == nil {
			err = json.Unmarshal(b, &t)
		}
		if err != nil {
			return nil, disk(err)
		}
		tags = append(tags, t)
	}
	return tags, nil
}
