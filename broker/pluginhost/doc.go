// Package pluginhost runs provider plugins: it finds their binaries, checks them
// against a lock file, runs each as a process of its own, supervises it, and
// offers a connection that survives its crashes.
//
// A Plugin is a grpc.ClientConnInterface:
//
//	host, err := pluginhost.New(pluginhost.Options{…})
//	err = host.Start(ctx)
//	p, err := host.Plugin("local")
//	resp, err := providerv1.NewProviderServiceClient(p).Probe(ctx, &providerv1.ProbeRequest{})
//
// # Processes
//
// Each launch has its own session and process group, no environment but what is
// configured, the null device as stdin, a socket in a folder of mode 0700 of its
// own, and mutual TLS with certificates made for it. Ending a process ends its
// group. What has left the group by making its own session is meant to outlive
// the plugin and is not touched.
//
// # Trust
//
// A binary is opened once; what was opened is hashed, and that same open file is
// executed, so swapping the path in between changes nothing. What must hold of
// the digest depends on where the binary was found:
//
//   - TrustLock: the lock file must record it. This is the default, for folders
//     that hold other people's plugins.
//   - TrustFirstUse: an unknown name is recorded when it is first run; from then
//     on as TrustLock.
//   - TrustLocation: nothing, the digest is only reported. It is for the folder
//     of the sandbar executable. Whoever can write there can replace sandbar
//     itself, so a digest kept elsewhere would protect nothing; and an upgrade or
//     a rebuild replaces sandbar and its plugins together and must go on working
//     without ceremony. It also keeps the start quick: nobody waits for the hash.
//
// In all cases a binary, or its folder, that everybody may write to is refused.
//
// # Concurrency
//
// For each plugin one goroutine steps the pure state machine of package
// supervisor, and one lives with each process. Host.Close ends and awaits all.
// The package imports neither the SDK nor the broker.
package pluginhost
