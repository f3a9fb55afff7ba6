package catalog

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/policy"
)

// goodFolder is a copy of testdata/good with the secret that it names.
func goodFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/good")); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "secrets/password", "a standing secret", 0o600)
	return dir
}

// write writes a file and the folders above it.
func write(t testing.TB, dir, name, text string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

func TestGoodFolder(t *testing.T) {
	t.Parallel()
	set, errs := Load(goodFolder(t), "")
	if errs != nil {
		t.Fatal(errs)
	}
	if got := len(set.Agents) + len(set.Destinations) + len(set.Providers) + len(set.Capabilities); got != 5 {
		t.Errorf("%d objects, want 5", got)
	}
	ca, err := os.ReadFile("testdata/good/certs/ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	if set.CAs["certs/ca.pem"] != string(ca) {
		t.Error("the certificate is not in the set")
	}
	read := set.Capabilities[0].Spec
	if !read.Calls[0].Query.Any || read.Calls[1].Query.Params["page[n]"] != "[0-9]+" || !read.Calls[1].Body.Any {
		t.Error("the query and body rules are not as written")
	}
	if read.Params["other"] != read.Params["ticket"] {
		t.Error("the alias was not followed")
	}
	if set.Providers[0].Spec.JWT.TTL.Duration.Seconds() != 90 {
		t.Error("the duration is not as written")
	}
}

// A secret is looked at and never read: nothing of it may be in what is published.
func TestSecretsStayOut(t *testing.T) {
	t.Parallel()
	set, errs := Load(goodFolder(t), "")
	if errs != nil {
		t.Fatal(errs)
	}
	source, err := policy.EncodeSet(set)
	if err != nil {
		t.Fatal(err)
	}
	again, err := policy.DecodeSet(source)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range again.CAs {
		if strings.Contains(text, "standing") {
			t.Errorf("the secret is in the set, as %s", name)
		}
	}
	if again.Providers[0].Spec.Static.Basic.Password != (v1alpha1.FileRef{File: "secrets/password"}) {
		t.Error("the reference is not as written")
	}
}

// Every error of every file, at once.
func TestBrokenFolderGolden(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("testdata/broken.golden")
	if err != nil {
		t.Fatal(err)
	}
	errs := Check("testdata/broken", "")
	if got := errs.Error() + "\n"; got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if got := errs.Summary(); got != "23 errors in 2 files" {
		t.Errorf("summary: %s", got)
	}
}

// header begins each document of the tables below; its last line is the 4th.
const header = "apiVersion: exeat.dev/v1alpha1\nkind: Destination\nmetadata: {name: d}\nspec:\n"

func TestOneError(t *testing.T) {
	t.Parallel()
	destination := func(rest string) string { return header + "  hosts: [d.example.org]\n" + rest }
	capability := func(body string) string {
		return provider + "---\n" + header + "  hosts: [d.example.org]\n---\n" +
			strings.Replace(header, "Destination", "Capability", 1) + "  destination: d\n  calls: [{method: GET, path: /x, body: " + body + "}]\n"
	}
	for name, test := range map[string]struct{ text, want string }{
		"no apiVersion":      {"kind: Provider\nmetadata: {name: p}\nspec: {jwt: {audience: a}}", "f.yaml:1: apiVersion: want exeat.dev/v1alpha1"},
		"no kind":            {"apiVersion: exeat.dev/v1alpha1", "f.yaml:1: kind: want Access, Agent, Capability, Destination or Provider"},
		"another kind":       {"apiVersion: exeat.dev/v1alpha1\nkind: Pod", "f.yaml:2: kind: want Access, Agent, Capability, Destination or Provider"},
		"kind in lower case": {"apiVersion: exeat.dev/v1alpha1\nkind: agent", "f.yaml:2: kind: want Access, Agent, Capability, Destination or Provider; did you mean Agent?"},
		"a kind of a kind":   {"apiVersion: exeat.dev/v1alpha1\nkind: [Agent]", "f.yaml:2: kind: want Access, Agent, Capability, Destination or Provider"},
		"no metadata":        {"apiVersion: exeat.dev/v1alpha1\nkind: Destination\nspec: {hosts: [d.example.org]}", "f.yaml:1: metadata.name: is missing"},
		"no name":            {"apiVersion: exeat.dev/v1alpha1\nkind: Destination\nmetadata: {}\nspec: {hosts: [d.example.org]}", "f.yaml:3: metadata.name: is missing"},
		"a number as a name": {"apiVersion: exeat.dev/v1alpha1\nkind: Destination\nmetadata: {name: 7}\nspec: {hosts: [d.example.org]}",
			"f.yaml:3: metadata.name: want a text: YAML reads this as a number, so put it in quotes"},
		"no spec":              {"apiVersion: exeat.dev/v1alpha1\nkind: Destination\nmetadata: {name: d}", "f.yaml:1: spec: is missing"},
		"an empty spec":        {header, "f.yaml:4: spec: is empty: give it a value or leave the field out"},
		"a text as spec":       {"apiVersion: exeat.dev/v1alpha1\nkind: Provider\nmetadata: {name: p}\nspec: jwt", "f.yaml:4: spec: want an object with jwt or static, not a single value"},
		"status of a cluster":  {destination("status: {}"), "f.yaml:6: status: unknown field; known here: kind, apiVersion, metadata, spec"},
		"another field's case": {destination("  clientenv: {}"), "f.yaml:6: spec.clientenv: unknown field; did you mean clientEnv?"},
		"two letters swapped":  {destination("  prot: 443\n"), "f.yaml:6: spec.prot: unknown field; did you mean port?"},
		"twice":                {destination("  port: 443\n  port: 444"), "f.yaml:7: spec.port: is here twice; first in line 6"},
		"a merge key":          {destination("  <<: {port: 443}"), "f.yaml:6: spec: merge keys (<<) are not read: write the fields out"},
		"a number as a key":    {destination("  1: 2"), "f.yaml:6: spec.1: the name is not a text: put it in quotes"},
		"a list as a key":      {destination("  ? [a]\n  : b"), "f.yaml:6: spec: want a text as the name of a field"},
		"a number too large":   {destination("  port: 99999999999"), "f.yaml:6: spec.port: want a whole number such as 443, without quotes"},
		"a hexadecimal port":   {destination("  port: 0x1bb"), "f.yaml:6: spec.port: want a whole number such as 443, without quotes"},
		"a date as a text":     {destination("  protocol: 2026-01-01"), "f.yaml:6: spec.protocol: want a text: YAML reads this as a date, so put it in quotes"},
		"a truth as a text":    {destination("  protocol: true"), "f.yaml:6: spec.protocol: want a text: YAML reads this as true or false, so put it in quotes"},
		"a list as a text":     {destination("  protocol: [http]"), "f.yaml:6: spec.protocol: want a text, not a list"},
		"a tag of one's own":   {destination("  protocol: !secret http"), "f.yaml:6: spec.protocol: want a text: YAML reads this as another type, so put it in quotes"},
		"a list as a map":      {destination("  clientEnv: [A]"), "f.yaml:6: spec.clientEnv: want a map from name to value, not a list"},
		"a hidden control":     {destination("  protocol: \"http\\e[0m\""), "f.yaml:6: spec.protocol: holds a control character"},
		"a key that colours":   {destination("  \"a\\e[31m\": 1"), "f.yaml:6: spec.a\\x1b[31m: unknown field; known here: hosts, port, addresses, protocol, tls, headers, clientEnv"},
		"a long key": {destination("  " + strings.Repeat("k", 90) + ": 1"),
			"f.yaml:6: spec." + strings.Repeat("k", 40) + "...: unknown field; known here: hosts, port, addresses, protocol, tls, headers, clientEnv"},
		"a reference without a file": {destination("  tls: {ca: {}}"), "f.yaml:6: spec.tls.ca.file: is missing; want a PEM file of CA certificates, or no tls at all for the system's roots"},
		"an absolute reference":      {destination("  tls: {ca: {file: /etc/ssl/certs/ca.pem}}"), "f.yaml:6: spec.tls.ca.file: leaves the secrets root: want a relative path without .."},
		"a reference with ..":        {destination("  tls: {ca: {file: a/../ca.pem}}"), "f.yaml:6: spec.tls.ca.file: leaves the secrets root: want a relative path without .."},
		"a reference to nothing":     {destination("  tls: {ca: {file: ca.pem}}"), "f.yaml:6: spec.tls.ca.file: the file does not exist"},
		"a reference to a folder":    {destination("  tls: {ca: {file: .}}"), "f.yaml:6: spec.tls.ca.file: the file is not a regular file"},
		"a tab for indentation":      {header + "\thosts: []", "f.yaml:5: not YAML, near this line: found character that cannot start any token"},
		"an open quote":              {header + "  hosts: [\"d]\n", "f.yaml:5: not YAML, near this line: found unexpected end of stream"},
		"a directive":                {"%YAML 1.2\n---\n" + destination(""), "f.yaml:1: not YAML, near this line: leave out the line that begins with %YAML"},
		"two documents unmarked":     {"a: b\n... \nc: d", "f.yaml:3: not YAML, near this line: did not find expected <document start>"},
		"not UTF-8":                  {"a: b\nc: \xff", "f.yaml:2: not UTF-8: save the file in that encoding"},
		"a NUL":                      {"a: b\n\nc: \x00", "f.yaml:3: holds the control character U+0000"},
		"nesting without end":        {capability("&a [*a]"), "f.yaml:17: spec.calls[0].body" + strings.Repeat("[0]", 27) + ": is nested deeper than 32 levels"},
		"a body of one's own":        {capability("{json: {}}"), `f.yaml:17: spec.calls[0].body: want "any"`},
		"a query of one's own":       {capability("any, query: 7"), `f.yaml:17: spec.calls[0].query: want "any" or a map from parameter to pattern`},
		"an alias to itself":         {header + "  hosts: &a [*a]", "f.yaml:5: spec.hosts[0]: want a text, not a list"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, "f.yaml", test.text, 0o644)
			if got := Check(dir, "").Error(); got != test.want {
				t.Errorf("\n got: %s\nwant: %s", got, test.want)
			}
		})
	}
}

// What compiling finds is shown where it was written: at the field, or at what
// is nearest above one that is missing.
func TestCompiledProblemsHavePlaces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "a.yaml", "# first\n---\n"+header+"  hosts:\n  - d.example.org\n  - D.example.org\n", 0o644)
	write(t, dir, "b.yaml", strings.Replace(header, "Destination", "Agent", 1)+"  spiffeID: spiffe://example.org/a\n  owner:\n    contact: c\n", 0o644)
	want := []string{`a.yaml:9: spec.hosts[1]: `, `b.yaml:4: spec.sidecarID: is missing`, `b.yaml:6: spec.owner.groups: is empty`}
	errs := Check(dir, "")
	if len(errs) != len(want) {
		t.Fatal(errs)
	}
	for i, e := range errs {
		if !strings.HasPrefix(e.Error(), want[i]) {
			t.Errorf("got %s\nwant %s", e, want[i])
		}
	}
}

// A field that could not be read is not reported a second time as missing.
func TestOneMistakeIsOneError(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"wrong type":    header + "  hosts: d.example.org\n",
		"misspelt":      header + "  host: [d.example.org]\n",
		"wrong element": header + "  hosts: [7]\n",
		"empty":         header + "  hosts:\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, "f.yaml", text, 0o644)
			if errs := Check(dir, ""); len(errs) != 1 {
				t.Error(errs)
			}
		})
	}
}

// A bomb of aliases costs what the budget says, and is one error.
func TestAliasBomb(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("apiVersion: exeat.dev/v1alpha1\nkind: Destination\nmetadata: {name: d}\nspec:\n")
	b.WriteString("  hosts: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range 9 {
		b.WriteString("  h" + string(rune('1'+i)) + ": &a" + string(rune('1'+i)) + " [" + strings.Repeat("*a"+string(rune('0'+i))+", ", 10) + "]\n")
	}
	b.WriteString("  clientEnv: {A: *a9}\n")
	dir := t.TempDir()
	write(t, dir, "bomb.yaml", b.String(), 0o644)
	if errs := Check(dir, ""); len(errs) == 0 || len(errs) > 50 {
		t.Errorf("%d errors", len(errs))
	}
	b.Reset()
	b.WriteString(header + "  hosts: &a [" + strings.Repeat("x, ", 2000) + "]\n  addresses: *a\n")
	for i := range 60 {
		b.WriteString("---\n" + strings.Replace(header, "{name: d}", "{name: d"+strings.Repeat("d", i)+"}", 1) + "  hosts: [x]\n")
	}
	write(t, dir, "bomb.yaml", b.String(), 0o644)
	for _, e := range Check(dir, "") {
		if strings.Contains(e.Message, "aliases followed") {
			t.Errorf("documents share a budget: %s", e)
		}
	}
}

func TestTooManyValues(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "f.yaml", header+"  hosts: &a ["+strings.Repeat("x,", maxValues)+"]\n  addresses: *a\n  headers: *a\n", 0o644)
	var found int
	for _, e := range Check(dir, "") {
		if strings.Contains(e.Message, "holds more than 100000 values") {
			found++
		}
	}
	if found != 1 {
		t.Errorf("said %d times, want once", found)
	}
}
