// Package policies holds example policies, which this test runs.
package policies

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/exeat-dev/exeat/catalog"
	"github.com/exeat-dev/exeat/policy/rego/suite"
)

func TestExamplesPassTheirTests(t *testing.T) {
	t.Parallel()
	folders, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, dir := range folders {
		if !dir.IsDir() {
			continue
		}
		ran++
		t.Run(dir.Name(), func(t *testing.T) {
			t.Parallel()
			modules, errs := catalog.Policies(filepath.Clean(dir.Name()))
			if errs != nil {
				t.Fatal(errs)
			}
			report, problems, err := suite.Run(t.Context(), modules, "")
			if err != nil || len(problems) > 0 {
				t.Fatal(catalog.PolicyErrors(problems), err)
			}
			for _, test := range report.Tests {
				if test.Result != suite.Pass {
					t.Errorf("%s: %s: %s", test.Name, test.Result, test.Detail)
				}
			}
			if report.Coverage < 100 {
				t.Errorf("%.1f%% covered: %+v", report.Coverage, report.Files)
			}
		})
	}
	if ran < 5 {
		t.Errorf("%d examples", ran)
	}
}
