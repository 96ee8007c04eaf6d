// Package archive makes tar streams of this machine's files and unpacks those
// that come from a sandbox, which are hostile until proven otherwise.
//
// Unpacking happens below one folder held open by os.Root. No entry can leave
// it: not by "..", not by an absolute name, not through a symbolic link of the
// archive or one that was there before. Set-uid bits, owners and devices of the
// archive are not taken over.
package archive
