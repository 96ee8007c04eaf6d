package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// stallTimeout is how long a download may deliver nothing before it is started
// again where it stopped.
const stallTimeout = 45 * time.Second

// errStalled is why a download that delivers nothing ends.
var errStalled = errors.New("the registry sent nothing for 45 s")

// registrySource is one repository of a registry. It is used by one pull.
type registrySource struct {
	ref  name.Reference
	auth authn.Authenticator
	base http.RoundTripper
	// session is the transport after the registry's handshake; nil before. It
	// is set by top, which comes before all else.
	session http.RoundTripper
}

// credentials are what authn wants to hear.
func (c Credentials) authenticator() authn.Authenticator {
	if c == (Credentials{}) {
		return authn.Anonymous
	}
	return authn.FromConfig(authn.AuthConfig{
		Username: c.Username, Password: c.Password, IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken,
	})
}

func (r *registrySource) top(ctx context.Context) (document, error) {
	if r.session == nil {
		session, err := transport.NewWithContext(ctx, r.ref.Context().Registry, r.auth, r.base,
			[]string{r.ref.Scope(transport.PullScope)})
		if err != nil {
			return document{}, err
		}
		r.session = session
	}
	return r.get(ctx, r.ref)
}

func (r *registrySource) manifest(ctx context.Context, desc v1.Descriptor) (document, error) {
	return r.get(ctx, r.ref.Context().Digest(desc.Digest.String()))
}

func (r *registrySource) get(ctx context.Context, ref name.Reference) (document, error) {
	desc, err := remote.Get(ref, remote.WithContext(ctx), remote.WithTransport(r.session))
	if err != nil {
		return document{}, err
	}
	return document{digest: desc.Digest, mediaType: desc.MediaType, raw: desc.Manifest}, nil
}

// blob starts a download. Registries need not know ranges: one that answers
// with the whole blob has its beginning skipped.
func (r *registrySource) blob(ctx context.Context, desc v1.Descriptor, offset int64) (io.ReadCloser, error) {
	repo := r.ref.Context()
	// The session's transport sets the scheme that the handshake found.
	url := fmt.Sprintf("%s://%s/v2/%s/blobs/%s", repo.Scheme(), repo.RegistryStr(), repo.RepositoryStr(), desc.Digest)
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, desc.Size-1))
	}
	resp, err := (&http.Client{Transport: r.session}).Do(req) //nolint:bodyclose // download.Close closes it
	if err != nil {
		cancel(nil)
		return nil, err
	}
	body := &download{ctx: ctx, cancel: cancel, body: resp.Body}
	body.stall = time.AfterFunc(stallTimeout, func() { cancel(errStalled) })
	if err := transport.CheckError(resp, http.StatusOK, http.StatusPartialContent); err != nil {
		return nil, errors.Join(err, body.Close())
	}
	if offset > 0 && resp.StatusCode == http.StatusOK {
		if _, err := io.CopyN(io.Discard, body, offset); err != nil {
			return nil, errors.Join(err, body.Close())
		}
	}
	return body, nil
}

// download is a response body that ends with errStalled when nothing comes.
type download struct {
	//nolint:containedctx // it is the context of this one stream, kept for its cause
	ctx    context.Context
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	stall  *time.Timer
}

func (d *download) Read(p []byte) (int, error) {
	d.stall.Reset(stallTimeout)
	n, err := d.body.Read(p)
	if err != nil && errors.Is(context.Cause(d.ctx), errStalled) {
		err = errStalled
	}
	return n, err
}

func (d *download) Close() error {
	d.stall.Stop()
	defer d.cancel(nil)
	return d.body.Close()
}
