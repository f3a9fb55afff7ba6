package catalog

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const provider = "apiVersion: exeat.dev/v1alpha1\nkind: Provider\nmetadata: {name: p}\nspec: {jwt: {audience: a}}\n"

func link(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

func TestFolder(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		make func(t *testing.T, dir string)
		want string // in place of the folder's name: catalog
	}{
		"empty":          {func(*testing.T, string) {}, "catalog: the catalog folder holds no *.yaml or *.yml file"},
		"other suffixes": {func(t *testing.T, dir string) { write(t, dir, "a.json", "{}", 0o644) }, "catalog: the catalog folder holds no *.yaml or *.yml file"},
		"hidden files":   {func(t *testing.T, dir string) { write(t, dir, ".a.yaml", provider, 0o644) }, "catalog: the catalog folder holds no *.yaml or *.yml file"},
		"folders inside": {func(t *testing.T, dir string) { write(t, dir, "more/a.yaml", provider, 0o644) }, "catalog: the catalog folder holds no *.yaml or *.yml file"},
		"a folder with a file's name": {func(t *testing.T, dir string) { write(t, dir, "a.yaml/b", "", 0o644) },
			"a.yaml: is not a regular file"},
		"a named pipe": {func(t *testing.T, dir string) {
			if err := syscall.Mkfifo(filepath.Join(dir, "a.yaml"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "a.yaml: is not a regular file"},
		"a link that leaves": {func(t *testing.T, dir string) {
			write(t, filepath.Dir(dir), "outside.yaml", provider, 0o644)
			link(t, "../outside.yaml", filepath.Join(dir, "a.yaml"))
		}, "a.yaml: leads out of its folder: a symbolic link must stay inside"},
		"an absolute link": {func(t *testing.T, dir string) {
			write(t, dir, "b.yaml", provider, 0o644)
			link(t, filepath.Join(dir, "b.yaml"), filepath.Join(dir, "a.yaml"))
		}, "a.yaml: leads out of its folder: a symbolic link must stay inside"},
		"a dangling link": {func(t *testing.T, dir string) { link(t, "b.yaml", filepath.Join(dir, "a.yaml")) },
			"a.yaml: does not exist"},
		"a link to itself": {func(t *testing.T, dir string) { link(t, "a.yaml", filepath.Join(dir, "a.yaml")) },
			"a.yaml: cannot be read: too many levels of symbolic links"},
		"a large file": {func(t *testing.T, dir string) {
			write(t, dir, "a.yaml", strings.Repeat("#", maxFileBytes)+"\n", 0o644)
		}, "a.yaml: is too large: at most 1048576 bytes are read"},
		"no folder": {func(t *testing.T, dir string) {
			if err := os.Remove(dir); err != nil {
				t.Fatal(err)
			}
		}, "catalog: the catalog folder does not exist"},
		"a file instead of a folder": {func(t *testing.T, dir string) {
			if err := os.Remove(dir); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Dir(dir), "catalog", "", 0o644)
		}, "catalog: the catalog folder is not a folder"},
		"one good, one bad": {func(t *testing.T, dir string) {
			write(t, dir, "a.yaml", provider, 0o644)
			write(t, dir, "b.yml", strings.Replace(provider, "name: p", "name: p", 1), 0o644)
		}, "b.yml:3: metadata.name: another Provider of this name is at a.yaml:1; a name stands once for each kind"},
		"a mounted ConfigMap": {func(t *testing.T, dir string) {
			write(t, dir, "..2026_01/a.yaml", provider, 0o644)
			link(t, "..2026_01", filepath.Join(dir, "..data"))
			link(t, "..data/a.yaml", filepath.Join(dir, "a.yaml"))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "catalog")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			test.make(t, dir)
			if got := Check(dir, "").Error(); got != test.want {
				t.Errorf("\n got: %s\nwant: %s", got, test.want)
			}
		})
	}
}

func TestTooManyFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range maxFiles + 1 {
		write(t, dir, strings.Repeat("a", i%50+1)+string(rune('a'+i/50))+".yaml", "", 0o644)
	}
	if got := Check(dir, "").Error(); !strings.HasSuffix(got, "holds more than 1000 files") {
		t.Error(got)
	}
}
