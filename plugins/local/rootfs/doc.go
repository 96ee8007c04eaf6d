// Package rootfs builds the lower root directory of a guest inside a shim's private mount namespace.
//
// Host shows the guest the programs of this machine and nothing of its people: /usr and what belongs to it, certificates, and an
// /etc made here. Never anybody's home, /root, /var, /run, /tmp or a socket. Everything of the host is mounted read-only; what the
// guest writes goes to an overlay which is not this package's business.
//
//	err := rootfs.Host(dir, rootfs.Options{Hostname: "build-7"})
//
// The caller must be in a private mount namespace (runsc.Enter) and dir on a file system of its own; everything vanishes with that
// namespace. The package must not import gVisor. Its functions are not safe for concurrent use on the same directory.
package rootfs
