package catalog

import (
	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/policy"
)

// loaded is what came of a folder. Set and compiled are nil when errs are not.
type loaded struct {
	set      *v1alpha1.Set
	compiled *policy.Catalog
	refs     []reference
	at       fingerprint // of all that was read
	errs     Errors
}

// Load reads the catalog in dir and compiles it. Files that it names lie
// under secretsRoot, which is dir itself when empty. The set holds the
// certificates that it names and is nil if there is any error.
func Load(dir, secretsRoot string) (*v1alpha1.Set, Errors) {
	l := load(readFolder(dir), orDir(secretsRoot, dir))
	return l.set, l.errs
}

// Check gives all that is wrong with the catalog in dir; nil when nothing is.
func Check(dir, secretsRoot string) Errors {
	_, errs := Load(dir, secretsRoot)
	return errs
}

func load(f folder, secrets string) loaded {
	root := openSecrets(secrets)
	defer root.close()
	r := readAll(f)
	refs := references(&r.set)
	outcomes := root.read(refs)
	r.resolve(outcomes)
	compiled := r.compile()
	l := loaded{refs: refs, at: fingerprint{f.hash(), hashOutcomes(outcomes)}, errs: r.errs.sorted()}
	if len(l.errs) == 0 {
		l.set, l.compiled = &r.set, compiled
	}
	return l
}

func orDir(secretsRoot, dir string) string {
	if secretsRoot == "" {
		return dir
	}
	return secretsRoot
}
