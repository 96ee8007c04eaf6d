package wire_test

import (
	"crypto/sha256"
	"encoding/hex"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"strings"
	"testing"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// known is what the declarations of package wire were when somebody last thought about
// older builds.
var known = struct {
	protocol     int
	declarations string
}{1, "d317d996d5321666"}

// TestProtocol finds every change of what is said between an agent and a shim, which
// are of different builds after an upgrade: a paused sandbox keeps its agent.
func TestProtocol(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "wire.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, d := range file.Decls {
		if g, ok := d.(*ast.GenDecl); !ok || g.Tok == token.IMPORT {
			continue
		}
		if err := printer.Fprint(&text, token.NewFileSet(), d); err != nil {
			t.Fatal(err)
		}
		text.WriteByte('\n')
	}
	sum := sha256.Sum256([]byte(text.String()))
	got := hex.EncodeToString(sum[:8])
	if got != known.declarations || wire.Protocol != known.protocol {
		t.Errorf("the declarations are %s of protocol %d, known are %s of %d.\n"+
			"If an agent and a shim that were built before the change still understand those after it, and the other way round, make %s known.\n"+
			"Otherwise raise wire.Protocol as well: then sandboxes that were paused before are refused, and not misunderstood.",
			got, wire.Protocol, known.declarations, known.protocol, got)
	}
}
