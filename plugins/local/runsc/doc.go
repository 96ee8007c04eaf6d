// Package runsc runs one gVisor sandbox inside the calling process's namespaces, with gVisor linked in as a library.
//
// The caller is a shim: a process started by Shim in fresh mount, pid, network, IPC and UTS namespaces (and a user namespace
// unless it is root). It is process 1 of its pid namespace, so that its death, however sudden, ends everything below it and
// drops every mount: nothing can leak. A shim runs exactly one sandbox and ends with it.
//
//	func main() {
//		runsc.Dispatch()               // gVisor's own processes and the guest's agent are this binary too
//		…
//	}
//
//	// in the plugin
//	cmd := runsc.Shim(ctx, "shim", "--state", dir)
//
//	// in the shim
//	err := runsc.Enter(dir)                          // once, first
//	tree, err := rootfs.Host(ctx, dir+"/root", …)     // package rootfs
//	sb, err := runsc.Create(ctx, runsc.Config{ID: id, Dir: dir, Root: dir + "/root", Agent: exe})
//	ex, err := sb.Start(ctx, runsc.Command{Argv: []string{"echo", "hi"}})
//	io.Copy(w, ex.Stdout)
//	res, err := ex.Wait(ctx)
//
// Config.Image takes the place of Config.Root for an OCI image in one EROFS file. Changes tells what the guest made of either.
//
// Commands are started by an agent that is process 1 of the guest, not by the runtime's exec: the runtime kills its own exec
// sessions on restore. Their standard streams are FIFOs between guest and shim, opened again by name on restore, so a restored
// exec keeps its output stream and its offsets.
//
// The package must not import the wire contract, the SDK or the broker. A Sandbox and its Execs are safe for concurrent use;
// Enter and Dispatch change process-wide state and are called once.
package runsc
