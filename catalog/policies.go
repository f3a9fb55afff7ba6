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
		return f.fail(name, "only *.rego is read here; move it to the catalog's folder, or write what policies need to know as a rule")
	default:
		return f
	}
	if strings.HasSuffix(name, rego.TestSuffix) {
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
