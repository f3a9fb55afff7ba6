package tickets_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/exeat-dev/exeat/catalog"
	"github.com/exeat-dev/exeat/examples/tickets"
	"github.com/exeat-dev/exeat/policy"
)

func TestCatalogIsGoodAsItIs(t *testing.T) {
	t.Parallel()
	if errs := catalog.Check("catalog", ""); errs != nil {
		t.Fatal(errs)
	}
}

func TestWriteCatalog(t *testing.T) {
	t.Parallel()
	ca, err := os.ReadFile(filepath.Join("catalog", tickets.CAFile))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new", "catalog")
	if err := tickets.WriteCatalog(dir, "127.0.0.1:23456", ca); err != nil {
		t.Fatal(err)
	}
	set, errs := catalog.Load(dir, "")
	if errs != nil {
		t.Fatal(errs)
	}
	for _, d := range set.Destinations {
		if d.Name == "tickets" && d.Spec.Addresses[0] != "127.0.0.1:23456" {
			t.Errorf("addresses: %v", d.Spec.Addresses)
		}
	}
	if set.CAs[tickets.CAFile] != string(ca) {
		t.Error("the CA is not the given one")
	}
	if err := tickets.WriteCatalog(dir, "127.0.0.1", ca); err == nil {
		t.Error("an address without a port was fine")
	}
}

// What the comments in the catalog promise.
func TestWhoMayAskForWhat(t *testing.T) {
	t.Parallel()
	set, errs := catalog.Load("catalog", "")
	if errs != nil {
		t.Fatal(errs)
	}
	compiled, problems := policy.Compile(set)
	if problems != nil {
		t.Fatal(problems)
	}
	for name, test := range map[string]struct {
		agent, capability string
		params            map[string]string
		code              string // of the refusal; empty: it may
	}{
		"triage reads a ticket of OPS":          {"triage", "read-ticket", map[string]string{"project": "OPS", "ticket": "OPS-42"}, ""},
		"triage does not read HR's":             {"triage", "read-ticket", map[string]string{"project": "HR", "ticket": "HR-1"}, "param_not_allowed"},
		"a ticket is one of its project":        {"triage", "read-ticket", map[string]string{"project": "OPS", "ticket": "SUP-1"}, "param_not_allowed"},
		"triage comments":                       {"triage", "comment-ticket", map[string]string{"ticket": "OPS-42"}, ""},
		"triage watches":                        {"triage", "watch-ticket", map[string]string{"ticket": "OPS-42"}, ""},
		"triage does not read the wiki":         {"triage", "read-page", map[string]string{"page": "home"}, "not_eligible"},
		"the librarian reads the wiki":          {"librarian", "read-page", map[string]string{"page": "home"}, ""},
		"the librarian does not read a ticket":  {"librarian", "watch-ticket", map[string]string{"ticket": "OPS-42"}, "not_eligible"},
		"a ticket must be named to be read":     {"triage", "read-ticket", map[string]string{"project": "OPS"}, "missing_param"},
		"no parameter carries a path elsewhere": {"triage", "watch-ticket", map[string]string{"ticket": "OPS-42/../../admin"}, "param_not_allowed"},
	} {
		_, err := compiled.Resolve(test.agent, test.capability, test.params)
		var refused *policy.RequestError
		code := ""
		if errors.As(err, &refused) {
			code = refused.Code
		}
		if code != test.code || (err != nil) != (test.code != "") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
