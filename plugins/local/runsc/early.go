package runsc

// gVisor's own processes, of which each sandbox starts six, begin before the packages of the plugin are initialised: gRPC, the
// contract and the SDK take 2 ms of a processor each time, and none of them is used there. The agent does the same in its package.
func init() { dispatchRuntime() }
