package pluginhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sandbar-dev/sandbar/proto/handshake"
)

const (
	// inspectDeadline is ample for printing a page of text.
	inspectDeadline = 3 * time.Second
	// maxManifest bounds what is read of it.
	maxManifest = 1 << 20
)

// Inspection is what a binary says about itself, and what it is.
type Inspection struct {
	Binary   Binary
	Pin      Pin
	Manifest handshake.Manifest
}

// Inspect asks a binary for its manifest by running it with --describe, in the
// same clean surroundings as a plugin. The digest is of exactly what was run. It
// does not ask whether the binary is trusted: to describe itself is how a binary
// gets to be considered.
func Inspect(ctx context.Context, b Binary) (Inspection, error) {
	program, err := openProgram(b.Path)
	if err != nil {
		return Inspection{}, fmt.Errorf("provider %q: %w", b.Name, err)
	}
	defer program.Close()
	if err := b.guarded(program); err != nil {
		return Inspection{}, err
	}
	pin, err := pinOf(program)
	if err != nil {
		return Inspection{}, fmt.Errorf("provider %q: %w", b.Name, err)
	}
	text, err := describe(ctx, program, b)
	if err != nil {
		return Inspection{}, err
	}
	manifest, err := handshake.DecodeManifest(text)
	if err != nil {
		return Inspection{}, fmt.Errorf("provider %q: %s %s: %w", b.Name, b.Path, handshake.DescribeFlag, err)
	}
	if manifest.Describe.GetName() != b.Name {
		return Inspection{}, fmt.Errorf("provider %q: %s calls itself %q: want %q, as its file name says",
			b.Name, b.Path, manifest.Describe.GetName(), b.Name)
	}
	pin.Version = manifest.Describe.GetVersion()
	return Inspection{Binary: b, Pin: pin, Manifest: manifest}, nil
}

// describe runs the program and returns what it prints.
func describe(ctx context.Context, program *os.File, b Binary) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, inspectDeadline)
	defer cancel()
	p := newProcess(b.Path, []string{handshake.DescribeFlag}, []string{"GOTRACEBACK=all"}, nil)
	if err := p.start(program); err != nil {
		return nil, fmt.Errorf("provider %q: %w", b.Name, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = p.Kill(ctx) })
	defer stop()
	out, errs := &capped{limit: maxManifest}, &lastWords{}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = p.errR.WriteTo(errs)
	}()
	_, _ = p.outR.WriteTo(out)
	<-p.exited
	<-copied
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("provider %q: %s %s did not end within %s", b.Name, b.Path, handshake.DescribeFlag, inspectDeadline)
	case p.err != nil:
		return nil, fmt.Errorf("provider %q: %s %s ended with %s: %s", b.Name, b.Path, handshake.DescribeFlag, ending(p.err), errs.report())
	case out.over:
		return nil, fmt.Errorf("provider %q: %s %s printed more than %d bytes", b.Name, b.Path, handshake.DescribeFlag, maxManifest)
	}
	return out.Bytes(), nil
}

// capped keeps the first bytes and swallows the rest.
type capped struct {
	bytes.Buffer
	limit int
	over  bool
}

func (c *capped) Write(b []byte) (int, error) {
	room := c.limit - c.Len()
	if len(b) > room {
		c.over = true
	}
	_, _ = c.Buffer.Write(b[:min(len(b), room)])
	return len(b), nil
}

// LockIn records binaries in the lock file as they are now. It records all of
// them or, if one cannot be inspected, none.
func LockIn(ctx context.Context, lockFile string, binaries []Binary) ([]Inspection, error) {
	var all []Inspection
	var errs []error
	for _, b := range binaries {
		i, err := Inspect(ctx, b)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, i)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	err := UpdateLock(lockFile, func(l *Lock) error {
		for _, i := range all {
			l.Plugins[i.Binary.Name] = i.Pin
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Verdict is the outcome of verifying one binary.
type Verdict struct {
	Binary Binary
	// Pin is the binary as it is; Version is left empty.
	Pin Pin
	// Err is nil if the binary may run.
	Err error
}

// Verify says of each binary whether it would be run, without running it.
func Verify(lockFile string, binaries []Binary) ([]Verdict, error) {
	lock, err := ReadLock(lockFile)
	if err != nil {
		return nil, err
	}
	out := make([]Verdict, len(binaries))
	for i, b := range binaries {
		out[i].Binary = b
		out[i].Pin, out[i].Err = verify(lock, b)
	}
	return out, nil
}

func verify(lock Lock, b Binary) (Pin, error) {
	program, err := openProgram(b.Path)
	if err != nil {
		return Pin{}, fmt.Errorf("provider %q: %w", b.Name, err)
	}
	defer program.Close()
	if err := b.guarded(program); err != nil {
		return Pin{}, err
	}
	pin, err := pinOf(program)
	if err != nil {
		return Pin{}, fmt.Errorf("provider %q: %w", b.Name, err)
	}
	_, known := lock.Plugins[b.Name]
	if b.Trust == TrustLocation || b.Trust == TrustFirstUse && !known {
		return pin, nil
	}
	return pin, lock.check(b, pin)
}
