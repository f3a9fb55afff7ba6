package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/catalog"
)

// desk is a folder with what a configuration names.
type desk struct {
	t   *testing.T
	dir string
}

func newDesk(t *testing.T) desk {
	d := desk{t, t.TempDir()}
	for _, name := range []string{"authz.key", "xds.key"} {
		if err := makeKey(d.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func (d desk) path(name string) string { return filepath.Join(d.dir, name) }

func (d desk) write(name, text string) string {
	d.t.Helper()
	if err := os.WriteFile(d.path(name), []byte(strings.ReplaceAll(text, "DIR", d.dir)), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return d.path(name)
}

// errors are what is wrong with a configuration, less the file's name.
func (d desk) errors(text string, o overrides) string {
	d.t.Helper()
	file := d.write("exeatd.yaml", text)
	_, err := loadConfig(file, o)
	if err == nil {
		return ""
	}
	if errs := (catalog.Errors)(nil); !errors.As(err, &errs) {
		d.t.Fatalf("not a list of errors: %v", err)
	}
	return strings.ReplaceAll(strings.ReplaceAll(err.Error(), file, "file"), d.dir, "DIR")
}

const good = `roles: [api, xds, authz]
replica: one
data: DIR/data
store: {dir: DIR/etcd, staleness: 1s}
identity: {workloadSocket: "unix:///run/spire/agent.sock", trustDomain: example.org}
listen: {api: "127.0.0.1:0", grpc: "127.0.0.1:0", metrics: "127.0.0.1:0"}
issuer: https://exeat.example.org
keys: {authz: DIR/authz.key, xds: DIR/xds.key}
catalog: {dir: DIR}
audit: {sync: disk}
drain: 3s
`

func TestAGoodConfigurationIsTaken(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	s, err := loadConfig(d.write("exeatd.yaml", good), overrides{api: "127.0.0.1:7", data: "/elsewhere"})
	if err != nil {
		t.Fatal(err)
	}
	if !s.roles.all() || s.listen.api != "127.0.0.1:7" || s.data != "/elsewhere" || !s.auditSync || s.store.Dir != d.path("etcd") {
		t.Errorf("got %+v", s)
	}
	again, err := loadConfig(d.path("exeatd.yaml"), overrides{})
	if err != nil || again.replica == s.replica || !strings.HasPrefix(s.replica, "one-") {
		t.Errorf("two processes of one name are %q and %q, %v", s.replica, again.replica, err)
	}
}

func TestAllErrorsOfAConfigurationComeAtOnce(t *testing.T) {
	t.Parallel()
	got := newDesk(t).errors(`roles: [api, authz, webhok]
dta: /tmp
store:
  endpoints: [etcd:2379, "https://etcd-1:2379"]
  staleness: 1
identity: {trustDomain: "Example Org"}
listen: {api: 8471, grpc: nonsense}
issuer: http://exeat.example.org
keys: {authz: DIR/none}
catalog: {dir: DIR/none}
audit: {sync: never}
drain: 1h
`, overrides{})
	want := `file:1: listen.metrics: is missing: want the HOST:PORT of /livez, /readyz and /metrics, such as 0.0.0.0:8471
`
	for _, line := range []string{
		`file:1: roles[2]: no role "webhok": want api, xds or authz`,
		`file:2: dta: unknown field; did you mean data?`,
		`file:3: store.tls: is missing: etcd is reached by mutual TLS; want ca, cert and key`,
		`file:4: store.endpoints[0]: want the client URL of an etcd member, such as https://etcd-0.example.org:2379`,
		`file:5: store.staleness: want a duration with its unit, such as 90s, 5m or 1h`,
		`file:6: identity.trustDomain: want a SPIFFE trust domain, such as example.org`,
		`file:6: identity.workloadSocket: is missing: want the SPIFFE Workload API's address, such as unix:///run/spire/agent.sock; servers have no other certificate`,
		`file:7: listen.api: want a text: YAML reads this as a number, so put it in quotes`,
		`file:7: listen.grpc: want HOST:PORT, such as 0.0.0.0:8471`,
		`file:7: ` + strings.TrimSpace(strings.TrimPrefix(want, "file:1: ")),
		`file:8: issuer: want the https URL, without query, by which upstreams reach the API: tokens are issued under it (RFC 8414 section 2)`,
		"file:9: keys.authz: DIR/none is missing: make it once with `exeatd keygen DIR/none` and give every process of the role the same",
		`file:10: catalog.dir: want the folder of the catalog's YAML files`,
		`file:11: audit.sync: want process (a decision survives the process) or disk (it survives a power loss)`,
		`file:12: drain: want 0s to 5m0s`,
	} {
		if !strings.Contains(got+"\n", line+"\n") {
			t.Errorf("it does not say\n%s", line)
		}
	}
	if n := strings.Count(got, "\n") + 1; n != 15 {
		t.Errorf("%d errors, want 15:\n%s", n, got)
	}
}

func TestAConfigurationIsRefusedFor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		old, new string
		o        overrides
		want     string
	}{
		"an embedded store without all roles": {"", "", overrides{roles: "api,xds"}, "store.dir: an embedded store is seen by one process alone"},
		"two stores":                          {"store: {dir: DIR/etcd", `store: {endpoints: ["https://a:1"], dir: DIR/etcd`, overrides{}, "want one of them"},
		"no store":                            {"dir: DIR/etcd, ", "", overrides{}, "want endpoints of an etcd cluster"},
		"one key for two roles":               {"DIR/xds.key", "DIR/authz.key", overrides{}, "each role has a key of its own"},
		"a role that there is not":            {"", "", overrides{roles: "api,boss"}, `--roles gives it: no role "boss"`},
		"a flag's address":                    {"", "", overrides{grpc: "here"}, "--grpc gives it: want HOST:PORT"},
		"a staleness of hours":                {"staleness: 1s", "staleness: 1h", overrides{}, "want 500ms to 10s"},
		"two documents":                       {"drain: 3s\n", "---\ndrain: 3s\n", overrides{}, "holds 2 documents"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := good
			if c.old != "" {
				text = strings.Replace(good, c.old, c.new, 1)
			}
			if got := newDesk(t).errors(text, c.o); !strings.Contains(got, c.want) {
				t.Errorf("got\n%s\nwant %q", got, c.want)
			}
		})
	}
}

// What a process's roles do not need may be missing, and is not opened.
func TestOneFileServesProcessesOfDifferentRoles(t *testing.T) {
	t.Parallel()
	for roles, missing := range map[string][]string{"xds": {"authz.key"}, "authz": {"xds.key"}} {
		d := newDesk(t)
		for _, name := range missing {
			if err := os.Remove(d.path(name)); err != nil {
				t.Fatal(err)
			}
		}
		text := strings.Replace(good, "dir: DIR/etcd, ", `endpoints: ["https://127.0.0.1:1"], tls: {ca: DIR/ca, cert: DIR/c, key: DIR/k}, `, 1)
		got := d.errors(text, overrides{roles: roles})
		if strings.Contains(got, "keys") || !strings.Contains(got, "store.tls.ca") {
			t.Errorf("roles %s: %s", roles, got)
		}
	}
}

func TestEveryFlagHasAVariable(t *testing.T) {
	d := newDesk(t)
	file := d.write("exeatd.yaml", good)
	t.Setenv("EXEAT_ROLES", "api,xds,boss")
	t.Setenv("EXEAT_GRPC", "here")
	cmd := root()
	var out strings.Builder
	cmd.SetErr(&out)
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"config", "check", file, "--grpc", "there"})
	if err := cmd.Execute(); !errors.Is(err, errTold) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{`no role "boss"`, "--grpc gives it"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, &out)
		}
	}
	t.Setenv("EXEAT_VERBOSE", "loud")
	cmd = root()
	cmd.SetArgs([]string{"serve", "--config", file})
	if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), "EXEAT_VERBOSE: not a value for --verbose") {
		t.Errorf("got %v", err)
	}
}

func TestAKeyIsMadeOnceAndOnlyWhereAskedFor(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys", "a.key")
	if _, err := openKey(path, false); err == nil || !strings.Contains(err.Error(), "exeatd keygen") {
		t.Errorf("a missing key: %v", err)
	}
	cmd := root()
	cmd.SetArgs([]string{"keygen", path})
	cmd.SetOut(&strings.Builder{})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	key, err := openKey(path, false)
	if err != nil || key == [keyBytes]byte{} {
		t.Fatalf("%v", err)
	}
	if again := root(); true {
		again.SetArgs([]string{"keygen", path})
		if err := again.Execute(); err == nil {
			t.Error("a key was replaced")
		}
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := openKey(path, false); err == nil {
		t.Error("a key that others can read was opened")
	}
}
