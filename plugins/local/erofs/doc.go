// Package erofs writes EROFS images: read-only file systems in one file, with
// owners, modes, times, device nodes and hard links that an ordinary user could
// not put on a directory tree.
//
// It writes the part of the format that gVisor's reader accepts, which is
// narrower than what Linux accepts:
//
//   - 4 KiB blocks (64 KiB where a directory demands it), nothing compressed, no chunks;
//   - regular files start on a block of their own and are never inlined,
//     because gVisor maps them straight into the sandbox;
//   - no extended attributes: gVisor refuses an inode that has any;
//   - 64-byte inodes, so that each file keeps its own time and a 32-bit owner.
//
// Two properties hold beyond that. The same calls give the same bytes. And file
// data goes to its final place while it is read: nothing is spooled or held in
// memory, blocks of zeros become holes, and data that turns out to be unwanted
// (a file that a later image layer replaces) is punched out again.
//
//	w := erofs.NewWriter(f, erofs.BlockSize)
//	extent, err := w.WriteFile(r, size)
//	root := &erofs.Inode{Mode: erofs.TypeDir | 0o755, Entries: []erofs.Entry{
//		{Name: "hello", Inode: &erofs.Inode{Mode: erofs.TypeRegular | 0o644, Data: extent}},
//	}}
//	stats, err := w.Finish(root)
//
// A Writer serves one goroutine. The package imports nothing but the standard
// library and system calls.
package erofs
