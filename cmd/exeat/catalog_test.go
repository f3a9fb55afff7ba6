package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/catalog"
)

// exeat runs the command and gives what it wrote and its exit code.
func exeat(args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	cmd := root()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	if err := cmd.Execute(); err != nil {
		code = exitFailed
		var e *exit
		if errors.As(err, &e) {
			code, err = e.code, e.err
		}
		if err != nil {
			errs.WriteString(err.Error())
		}
	}
	return out.String(), errs.String(), code
}

const (
	goodCatalog   = "../../examples/tickets/catalog"
	brokenCatalog = "../../catalog/testdata/broken"
	brokenGolden  = "../../catalog/testdata/broken.golden"
)

func TestCatalogCheckPrintsEveryErrorAtOnce(t *testing.T) {
	t.Parallel()
	golden, err := os.ReadFile(brokenGolden)
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := exeat("catalog", "check", brokenCatalog)
	if code != 1 || stdout != "" || stderr != strings.TrimSpace(string(golden))+"\n" {
		t.Errorf("exit code %d, %q, and\n%s\nwant 1, nothing, and\n%s", code, stdout, stderr, golden)
	}
}

func TestCatalogCheckOfAGoodCatalog(t *testing.T) {
	t.Parallel()
	stdout, stderr, code := exeat("catalog", "check", goodCatalog)
	if code != 0 || stderr != "" || !strings.HasPrefix(stdout, goodCatalog+": no errors; ") {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
}

func TestCatalogCheckForMachines(t *testing.T) {
	t.Parallel()
	for dir, want := range map[string]int{goodCatalog: 0, brokenCatalog: 1} {
		stdout, stderr, code := exeat("catalog", "check", "-o", "json", dir)
		var got struct{ Errors catalog.Errors }
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || got.Errors == nil || stderr != "" || code != want {
			t.Fatalf("%s: exit code %d, %v: %s%s", dir, code, err, stdout, stderr)
		}
		if (len(got.Errors) > 0) != (want == 1) {
			t.Errorf("%s: %v", dir, got.Errors)
		}
		for _, e := range got.Errors {
			if e.File == "" || e.Line == 0 || e.Message == "" {
				t.Errorf("no place or no message: %+v", e)
			}
		}
	}
}

func TestCatalogCheckSaysWhatIsWrongWithTheCall(t *testing.T) {
	t.Parallel()
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	for want, args := range map[string][]string{
		"nowhere":    {"catalog", "check", nowhere},
		"want json":  {"catalog", "check", "-o", "yaml", goodCatalog},
		"accepts 1 ": {"catalog", "check"},
	} {
		if _, stderr, code := exeat(args...); code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit code %d, %q, want %q", args, code, stderr, want)
		}
	}
}
