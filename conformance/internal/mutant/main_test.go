package mutant

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// serveFlag makes the test binary a plugin process.
const serveFlag = "serve-mutant"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == serveFlag {
		id := ""
		if len(os.Args) > 2 && !strings.HasPrefix(os.Args[2], "-") {
			id = os.Args[2]
		}
		if err := Serve(id); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// A mutant's case mostly waits for what does not come.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if built.dir != "" {
			_ = os.RemoveAll(built.dir) // the system's folder for temporary files is cleaned anyway
		}
		os.Exit(code)
	}))
}

func host(t *testing.T) Host {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Host{Path: path, Args: []string{serveFlag}}
}
