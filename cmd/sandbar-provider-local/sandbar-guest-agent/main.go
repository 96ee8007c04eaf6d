// The command sandbar-guest-agent is the first process inside of each sandbox of the
// provider local, which takes it from the folder that it is in itself.
//
// It is built without anything that differs from commit to commit, such as a
// version: a paused sandbox has its code in memory, so only the very same file
// resumes it.
package main

import (
	"fmt"
	"os"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/guestagent"
)

func main() {
	fmt.Fprintln(os.Stderr, guestagent.Usage)
	os.Exit(2)
}
