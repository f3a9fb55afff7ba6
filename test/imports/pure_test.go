package imports

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// doors are packages through which the world is read or changed.
var doors = []string{
	"crypto/rand", "database/sql", "io/fs", "io/ioutil", "log", "log/slog",
	"math/rand", "math/rand/v2", "net", "net/http", "net/rpc", "net/smtp", "os", "os/exec",
	"os/signal", "os/user", "plugin", "syscall", "unsafe",
}

// clocks are what reads the clock, or waits for it, in package time.
var clocks = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

func TestPolicyDoesNoIO(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if top(s.folder) != "policy" || s.test || isTestHelper(s.folder) {
			continue
		}
		for _, p := range s.imports {
			if slices.Contains(doors, p) || strings.HasPrefix(p, "golang.org/x/sys") {
				t.Errorf("%s imports %s", s.file, p)
			}
		}
		for _, name := range clockReads(t, filepath.Join(root(t), s.file)) {
			t.Errorf("%s uses time.%s: time comes in as a value", s.file, name)
		}
	}
}

// clockReads lists the uses of the clock in a file.
func clockReads(t *testing.T, name string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && x.Name == timeName(f) && slices.Contains(clocks, sel.Sel.Name) {
			found = append(found, sel.Sel.Name)
		}
		return true
	})
	return found
}

// timeName is what a file calls package time; "" when it does not import it.
func timeName(f *ast.File) string {
	for _, i := range f.Imports {
		switch {
		case i.Path.Value != `"time"`:
		case i.Name != nil:
			return i.Name.Name
		default:
			return "time"
		}
	}
	return ""
}

func TestClockReadsAreFound(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "x.go")
	text := "package x\nimport clock \"time\"\nvar a, b = clock.Now(), clock.Since\n"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := clockReads(t, name); !slices.Equal(got, []string{"Now", "Since"}) {
		t.Errorf("found %v", got)
	}
}

func TestTheSidecarLinksNeitherEtcdNorOPA(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/exeat-sidecar")
	cmd.Dir = root(t)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, complaint.String())
	}
	for p := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(p, "go.etcd.io/") || strings.HasPrefix(p, "github.com/open-policy-agent/") {
			t.Errorf("exeat-sidecar links %s", p)
		}
		if to, ok := own(p); ok && !slices.Contains([]string{"cmd", "sidecar", "identity"}, top(to)) {
			t.Errorf("exeat-sidecar links %s of this module", to)
		}
	}
}
