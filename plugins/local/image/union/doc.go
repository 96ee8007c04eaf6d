// Package union flattens the layers of an OCI image into one tree.
//
// It owns the rules of the OCI layer format: whiteouts and opaque directories
// hide what lower layers have and never what their own layer has, directories
// merge, everything else replaces, hard links reach into lower layers, and the
// last of several entries for one path wins. Nothing touches the host's file
// system: the tree is in memory, so a symbolic link in an image leads to
// another place in the image, and a name that climbs out of it is refused.
// File content goes to a Sink as it is read.
//
//	t := union.New(sink, union.Limits{})
//	for _, layer := range layers { // lowest first
//		err := t.Apply(ctx, layer)
//	}
//	root := t.Root()
//
// Extended attributes are counted and dropped: gVisor's EROFS reader has none.
// A Tree serves one goroutine.
package union
