// Command runsc is gVisor's own command line, of the version that Sandbar links.
package main

import "gvisor.dev/gvisor/runsc/cli/maincli"

func main() { maincli.Main() }
