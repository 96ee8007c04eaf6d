package provider

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/broker/session"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// DialExec opens one attachment; it is the session.Dial of this provider.
func (p *Provider) DialExec(ctx context.Context) (session.Transport, error) {
	s, err := p.AttachExec(ctx)
	if err != nil {
		return nil, err //nolint:wrapcheck // a *fault.Error already
	}
	return execTransport{s}, nil
}

// Follow attaches to a command and stays with it to its end, through losses of
// the connection and restarts of the plugin; see session.Attachment.Run. For a
// command with stdin or a terminal make the attachment yourself, and run it with
// DialExec.
func (p *Provider) Follow(ctx context.Context, open *providerv1.ExecOpen, opts session.Options) (session.Result, error) {
	r, err := session.New(open, opts).Run(ctx, p.DialExec)
	if err != nil {
		return r, fmt.Errorf("exec %q on provider %q: %w", open.GetExecId(), p.name, err)
	}
	return r, nil
}

// execTransport takes the envelopes off.
type execTransport struct {
	stream grpc.BidiStreamingClient[providerv1.AttachExecRequest, providerv1.AttachExecResponse]
}

func (t execTransport) Send(in *providerv1.ExecInput) error {
	return t.stream.Send(&providerv1.AttachExecRequest{Input: in}) //nolint:wrapcheck // io.EOF must stay bare
}

func (t execTransport) Recv() (*providerv1.ExecOutput, error) {
	resp, err := t.stream.Recv()
	return resp.GetOutput(), err //nolint:wrapcheck // io.EOF must stay bare
}
