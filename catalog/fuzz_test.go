package catalog

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/exeat-dev/exeat/policy"
)

// Whatever a file holds: no panic, each error is one printable line with a
// place inside the file, and what is accepted survives the way through the store.
func FuzzRead(f *testing.F) {
	for _, pattern := range []string{"testdata/*/*.y*ml", "../examples/tickets/catalog/*.yaml"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			f.Fatalf("no seeds in %s: %v", pattern, err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	for _, seed := range []string{provider, static, header, "---\n---\n", "--- |\n---\n", "%TAG ! x\n---\n!a b", "a: &a\n  <<: *a", "\ufeff" + provider, "? ", "- - - -", "\"\\", "...\n...", "a: 'b\n---\nc'"} {
		f.Add([]byte(seed))
	}
	empty := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		lines := strings.Count(string(text), "\n") + 1
		l := load(folder{files: []file{{"f.yaml", text}}}, empty)
		for _, e := range l.errs {
			if s := e.Error(); strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("not one printable line: %q", s)
			}
			if e.Line < 1 || e.Line > lines {
				t.Errorf("%s: the file has %d lines", e, lines)
			}
		}
		if (l.set == nil) == (len(l.errs) == 0) {
			t.Fatal("neither a catalog nor an error, or both")
		}
		if l.set == nil {
			return
		}
		source, err := policy.EncodeSet(l.set)
		if err != nil {
			t.Fatal(err)
		}
		set, err := policy.DecodeSet(source)
		if err != nil {
			t.Fatal(err)
		}
		if again, problems := policy.Compile(set); problems != nil || again.Revision() != l.compiled.Revision() {
			t.Fatalf("another catalog comes out of the store: %v", problems)
		}
	})
}
