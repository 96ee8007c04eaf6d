// Package authz decides what a caller may do. It knows every procedure of the
// API and the permission that it takes, what each role may, and how a scope
// narrows that; and it carries the caller through a call, in its context.
//
// There are two decisions, and each is made in one place. Admit decides whether a
// call may be made at all, before its body is read; package api asks it for every
// request. Principal.Sees decides which of the objects that are there exist for
// the caller; package broker asks it wherever it looks one up. What a caller does
// not see is absent in every answer, so that nothing can be guessed.
//
// The package does no I/O: who somebody is, package authn finds out. Its values
// are immutable and safe for concurrent use.
//
//	who, err := authz.Admit(who, "/sandbar.broker.v1.SandboxService/StartExec", "")
//	ctx = authz.With(ctx, who)
package authz
