// Package portable is the form of a sandbox's files outside of any provider: an OCI
// image layout, a folder or one tar file, with a single uncompressed layer and a
// config that says what the files are of, what came along, and what did not.
//
// Whatever is read is hostile until proven otherwise. The digest and the size of
// each blob are checked; an entry of a layer lies below one of the paths that the
// snapshot names, below nothing but folders, and is a file, a folder, a symbolic
// link, or a hard link to a file before it.
//
// The package knows no broker. A Layout may be used by one goroutine at a time.
package portable
