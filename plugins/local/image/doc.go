// Package image keeps OCI images as root file systems for gVisor.
//
// A Store owns a folder. Pull brings an image from a registry, or from a folder
// in OCI image layout, and flattens it into one uncompressed EROFS file that
// gVisor maps into any number of sandboxes: owners, modes, set-uid bits, times,
// hard links and device nodes survive, which they would not on a directory tree
// that an ordinary user unpacked.
//
//	store, err := image.Open(ctx, dir, image.Options{})
//	img, err := store.Pull(ctx, "docker.io/library/alpine:3", image.PullOptions{Owner: sandboxID})
//	for key, value := range img.Annotations("memory", 0) { spec.Annotations[key] = value }
//	...
//	err = store.Release(ctx, sandboxID)
//
// What an image loses: extended attributes (file capabilities among them),
// because gVisor's EROFS reader has none, and the use of device nodes, because
// it reports them without their numbers; gVisor has a /dev of its own.
//
// # On disk
//
//	blobs/<hex>                          a compressed layer
//	images/<hex>/{rootfs.erofs,image.json}  an image by manifest digest
//	refs/<hex>.json                      which image a reference and platform stood for
//	leases/<hex>/<hex>                   who needs an image
//	tmp/<random>/                        work in progress of one open Store
//
// Whatever is outside tmp is whole: it was synced and then renamed to its place.
// A Store holds a lock on its folder in tmp, and Open deletes folders whose
// lock is free, so a killed process leaves nothing behind. Several processes may
// have the same folder open; short changes are made under the file lock.
//
// # Trust
//
// An image in the store is there for every caller of the store, whoever's
// credentials brought it. A provider that serves callers who must not see one
// another's images opens one store for each.
//
// All errors of exported methods are *fault.Error with effect none. A Store is
// safe for concurrent use.
package image
