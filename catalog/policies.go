package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/policy/rego"
)

// policiesFolder holds Rego; the folders in it are read as well.
const policiesFolder = "policies"

const maxPolicyDepth = 8

// Policies reads the Rego of a catalog, or of any other folder: what is below
// its policies/ folder, or below itself where it has none. Tests are among it.
func Policies(dir string) ([]rego.Module, Errors) {
	f := folder{tests: true}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, f.fail(path.Base(dir), "the folder "+whyNoRoot(err)).errs
	}
	defer func() { _ = root.Close() }() // nothing was written
	below := policiesFolder
	if info, err := root.Stat(policiesFolder); err != nil || !info.IsDir() {
		below = "."
	}
	f = f.readPolicies(root, below, 0)
	r := &reader{errs: f.errs}
	r.policies(f.policies)
	modules := make([]rego.Module, len(r.set.Policies))
	for i, m := range r.set.Policies {
		modules[i] = rego.Module{Path: m.Path, Source: m.Source}
	}
	return modules, r.errs.sorted()
}

// PolicyErrors brings problems of policies into the form of a catalog's.
func PolicyErrors(problems []rego.Problem) Errors {
	var errs Errors
	for _, p := range problems {
		errs = append(errs, Error{File: p.Path, Line: p.Line, Message: p.Message})
	}
	return errs.sorted()
}

// readPolicies reads the modules below a folder. Tests are not a part of the
// catalog: they are left where they are.
func (f folder) readPolicies(root *os.Root, dir string, depth int) folder {
	entries, err := fs.ReadDir(root.FS(), dir)
	if depth == 0 && errors.Is(err, fs.ErrNotExist) {
		return f
	}
	if err != nil {
		return f.fail(dir, "the folder of policies "+why(err))
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."): // as with the catalog's own files
		case e.IsDir() && depth == maxPolicyDepth:
			f = f.fail(name, fmt.Sprintf("folders of policies nest at most %d deep", maxPolicyDepth))
		case e.IsDir():
			f = f.readPolicies(root, name, depth+1)
		case len(f.policies) > rego.MaxModules:
			return f // one more than may be, which the compiler says
		default:
			f = f.readPolicy(root, name)
		}
	}
	return f
}

func (f folder) readPolicy(root *os.Root, name string) folder {
	switch path.Ext(name) {
	case ".rego":
	case ".yaml", ".yml", ".json":
		if path.Dir(name) == "." { // of a catalog, or of no concern
			return f
		}
		return f.fail(name, "only *.rego is read here; move it to the catalog's folder, or write what policies need to know as a rule")
	default:
		return f
	}
	if strings.HasSuffix(name, rego.TestSuffix) && !f.tests {
		return f
	}
	text, err := readWithin(root, name, maxFileBytes)
	if err != nil {
		return f.fail(name, why(err))
	}
	f.policies = append(f.policies, file{name, text})
	return f
}

// policies takes the modules into the set.
func (r *reader) policies(files []file) {
	for _, f := range files {
		if err := checkText(f); err != nil {
			r.errs = append(r.errs, *err)
			continue
		}
		r.set.Policies = append(r.set.Policies, v1alpha1.PolicyModule{Path: f.name, Source: string(f.text)})
	}
}
