// Package sdk turns a Driver into a Sandbar provider.
//
// A vendor implements Driver, and the optional interfaces for what it can do
// beyond the core, declares the capabilities in Describe, and calls Serve:
//
//	func main() { sdk.Serve(&driver{}, sdk.Options{}) }
//
// The SDK owns everything that is the same for all providers, so that a driver
// cannot get it wrong: the plugin handshake, message limits and keepalive; the
// refusal of what is not declared, from the guards in the .proto files; the
// validation of requests and settings, and the filling in of defaults; the
// refusal of a key that was said to have made nothing, noted in the state
// folder below .sandbar, which is the SDK's; deadlines with time left to
// answer; the panic guard; secrets kept out of errors and logs; logging that
// never blocks; exec with offsets, replay and backpressure (package exec); the
// framing of files, archives and tunnels; draining; and the end of the process
// when its host dies.
//
// Server is the same without a process around it: it registers the contract with
// any *grpc.Server, which is how a shim serves its one sandbox and how tests run
// in process.
//
// The SDK must not import anything of broker/. Errors are *fault.Error; any other
// error a driver returns is reported as PLUGIN_BUG. All of a driver's methods are
// called concurrently.
package sdk
