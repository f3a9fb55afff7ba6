package imports

import (
	"slices"
	"strings"
	"testing"
)

// table is that of docs/architecture.md: what each folder may import of the others.
var table = map[string][]string{
	"api":      {},
	"identity": {},
	"policy":   {"api", "identity"},
	"catalog":  {"api", "policy", "store"},
	// A touch holds a sensitivity, which is a type of api.
	"store": {"api", "policy"},
	"audit": {"policy"},
	// A provider's kind is a type of api, which policy's own surface
	// (Resolved.Provider) hands over.
	"credential": {"api", "policy", "store"},
	"grant":      {"policy", "store", "audit", "credential"},
	"proxy":      {"policy", "store", "credential", "audit", "identity"},
	"xds":        {"policy", "store", "identity"},
	"sidecar":    {"identity"},
	"server":     {"grant", "policy", "store", "audit", "identity"},
	"client":     {"api"},
	"cmd": {
		"api", "identity", "policy", "catalog", "store", "audit", "credential", "grant",
		"proxy", "xds", "sidecar", "server", "client",
	},
}

// outside are the folders that stand around the product: what is in them may
// import anything, and nothing else may import them.
var outside = []string{"test", "examples"}

func TestEveryImportIsInTheTable(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		for _, p := range s.imports {
			to, ok := own(p)
			if !ok {
				continue
			}
			if why := forbidden(s, to); why != "" {
				t.Errorf("%s imports %s: %s", s.file, to, why)
			}
		}
	}
}

// forbidden says what is wrong with an import of another folder, or nothing.
func forbidden(from source, to string) string {
	switch a, b := top(from.folder), top(to); {
	case slices.Contains(outside, a):
		return ""
	case slices.Contains(outside, b):
		return "only test programs and examples import these"
	case isTestHelper(to) && !from.test && !isTestHelper(from.folder):
		return "a package for tests is imported by tests only"
	case b == "cmd":
		return programs(from, to)
	case a == b:
		return ""
	case from.test || isTestHelper(from.folder):
		// A test may set up what stands beside the package, never what is above it.
		return above(a, b)
	case !slices.Contains(table[a], b):
		return "not in the table of the architecture page"
	}
	return ""
}

// programs: a program's own packages are its own.
func programs(from source, to string) string {
	if strings.HasPrefix(from.folder+"/", to+"/") || strings.HasPrefix(to, from.folder+"/") {
		return ""
	}
	return "nothing imports a program"
}

// above refuses that the test of a package imports one that imports it: what
// it tests then is that one.
func above(a, b string) string {
	if reaches(b, a) {
		return "this package stands above the tested one"
	}
	return ""
}

func reaches(from, to string) bool {
	for _, next := range table[from] {
		if next == to || reaches(next, to) {
			return true
		}
	}
	return false
}

// isTestHelper reports whether a folder holds help for other packages' tests,
// such as store/storetest.
func isTestHelper(folder string) bool {
	return strings.Contains(folder, "/") && strings.HasSuffix(folder, "test")
}

func TestEveryPackageIsInTheTable(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		first := top(s.folder)
		if _, ok := table[first]; !ok && !slices.Contains(outside, first) {
			t.Errorf("%s: %q is no folder of the architecture page", s.file, first)
		}
	}
}

func TestNoFolderIsAJunkDrawer(t *testing.T) {
	t.Parallel()
	drawers := []string{"util", "utils", "common", "helper", "helpers", "types", "pkg", "internal", "misc", "shared", "lib"}
	for _, s := range sources(t) {
		for part := range strings.SplitSeq(s.folder, "/") {
			if slices.Contains(drawers, part) {
				t.Errorf("%s: %q says nothing about what is in it", s.file, part)
			}
		}
	}
}

func TestTheTableIsAsTheDesignSays(t *testing.T) {
	t.Parallel()
	for _, never := range [][2]string{
		{"xds", "proxy"}, {"proxy", "xds"}, {"xds", "credential"}, {"proxy", "grant"},
		{"policy", "store"}, {"sidecar", "store"}, {"client", "store"}, {"store", "catalog"},
	} {
		if reaches(never[0], never[1]) {
			t.Errorf("%s reaches %s", never[0], never[1])
		}
	}
	for name := range table {
		if reaches(name, name) {
			t.Errorf("%s reaches itself", name)
		}
	}
}

func TestTheCatalogKindsAreLight(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if top(s.folder) != "api" || s.test {
			continue
		}
		for _, p := range s.imports {
			if strings.Contains(p, ".") && !strings.HasPrefix(p, "k8s.io/apimachinery/") {
				t.Errorf("%s imports %s: the kinds are types only", s.file, p)
			}
		}
	}
}
