package openapi

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/identity"
	"github.com/exeat-dev/exeat/server"
	"github.com/exeat-dev/exeat/server/servertest"
	"github.com/exeat-dev/exeat/test/stack"
)

// patience bounds one run of Schemathesis.
const patience = 3 * time.Minute

// checks that Schemathesis makes of every answer. Left out are those that
// presume what this API is not: missing resources that a caller may create, and
// authentication by a header.
const checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance," +
	"response_schema_conformance,negative_data_rejection,unsupported_method,allow_header_conformance"

// The API does what its own document says, whatever it is sent: as the sidecar
// of an agent with a running task.
func TestTheAPIIsAsItsDocumentSays(t *testing.T) {
	t.Parallel()
	a := servertest.Start(t)
	dir := t.TempDir()
	cert, key := pemOf(t, a, dir, servertest.Triage1)
	ca := filepath.Join(dir, "ca.pem")
	write(t, ca, a.Authority.BundlePEM())
	task := start(t, a)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "python3", "-m", "schemathesis.cli", "--config-file", filepath.Join(stack.Root(), "test", "openapi", "schemathesis.toml"), "run", a.URL+"/openapi.json",
		"--request-cert", cert, "--request-cert-key", key, "--tls-verify", ca, "--header", "Exeat-Task-Credential: "+task.Credential,
		"--checks", checks, "--phases", "examples,coverage,fuzzing", "--max-examples", "15", "--seed", "20261128",
		"--continue-on-failure", "--warnings", "off", "--output-sanitize", "false", "--request-timeout", "30",
		"--no-color")
	cmd.Dir = dir
	tools := filepath.Join(stack.Root(), ".tools", "schemathesis")
	if _, err := os.Stat(tools); err != nil {
		t.Fatalf("Schemathesis is missing; run 'make tools': %v", err)
	}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "PYTHONPATH=" + tools, "PYTHONDONTWRITEBYTECODE=1"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "No issues found") {
		t.Errorf("it did not say that all is well:\n%s", out)
	}
}

// start starts a task with a grant, so that there is something to be found.
func start(t *testing.T, a *servertest.API) server.StartedTask {
	t.Helper()
	var task server.StartedTask
	post(t, a, "/v1/tasks", `{"type":"triage","timeout":"1h"}`, "", &task)
	var g server.Grant
	post(t, a, "/v1/grants", `{"task":"`+task.ID+`","capability":"read-ticket","params":{"ticket":"OPS-42"}}`, task.Credential, &g)
	return task
}

func post(t *testing.T, a *servertest.API, path, body, credential string, out any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.URL+path, strings.NewReader(body))
	a.Must(err)
	req.Header.Set("Content-Type", "application/json")
	if credential != "" {
		req.Header.Set("Exeat-Task-Credential", credential)
	}
	resp, err := a.As(servertest.Triage1).Do(req)
	a.Must(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	a.Must(err)
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("%s: %s %s", path, resp.Status, text)
	}
	a.Must(json.Unmarshal(text, out))
}

// pemOf writes an SVID and its key, as a client outside of Go wants them.
func pemOf(t *testing.T, a *servertest.API, dir, path string) (cert, key string) {
	t.Helper()
	id, err := identity.ParseID("spiffe://" + servertest.Domain + path)
	a.Must(err)
	svid, err := a.Authority.Source(id, nil, nil).GetX509SVID()
	a.Must(err)
	var chain []byte
	for _, c := range svid.Certificates {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(svid.PrivateKey)
	a.Must(err)
	cert, key = filepath.Join(dir, "svid.pem"), filepath.Join(dir, "key.pem")
	write(t, cert, chain)
	write(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return cert, key
}

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
