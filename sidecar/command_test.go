package sidecar_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/exeat-dev/exeat/sidecar"
)

// binary is exeat-sidecar, built once for all tests.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "exeat-bin-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "exeat-sidecar")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", path, "../cmd/exeat-sidecar").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// launched is a running exeat-sidecar.
type launched struct {
	cmd    *exec.Cmd
	status sidecar.Status
	pipe   *bufio.Reader // ends when the process does
	log    *bytes.Buffer
	runDir string
}

func launch(t *testing.T, w *world) launched {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close() })
	l := launched{runDir: filepath.Join(w.dir, "run"), pipe: bufio.NewReader(read), log: &bytes.Buffer{}}
	data, err := json.Marshal(map[string]string{"local_socket": w.local})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "endpoints.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	l.cmd = exec.Command(path, "--dev", w.dir, "--agent", "triage", "--run-dir", l.runDir, "--ready-fd", "3", "--die-with-parent")
	l.cmd.ExtraFiles = []*os.File{write}
	l.cmd.Env = append(os.Environ(), "A_SECRET=s3cr3t")
	l.cmd.Stderr = l.log
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	t.Cleanup(func() { l.cmd.Process.Kill(); l.cmd.Wait() })
	line, err := l.pipe.ReadBytes('\n')
	if err != nil {
		l.cmd.Wait()
		t.Fatalf("no status: %v\n%s", err, l.log)
	}
	if err := json.Unmarshal(line, &l.status); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestTheCommandRunsAndEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	l := launch(t, w)
	if l.status.Instance != "spiffe://example.org/sidecar/triage/enrolled" || l.status.ClientEnv["KEY"] != "exeat" {
		t.Errorf("status %+v", l.status)
	}
	got, _ := ask(t, running{Status: l.status}, "/v1/x")
	if got.status != 200 || !strings.HasPrefix(got.body, l.status.Instance) {
		t.Errorf("got %+v", got)
	}
	confined(t, envoyPID(t, l.runDir))
	l.cmd.Process.Signal(syscall.SIGTERM)
	if err := l.cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, l.log)
	}
	if _, err := l.pipe.ReadByte(); err == nil {
		t.Error("more than one line of status")
	}
	if findEnvoy(l.runDir) != 0 {
		t.Error("Envoy was left behind")
	}
	for _, line := range strings.Split(strings.TrimSpace(l.log.String()), "\n") {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
}

// confined: nothing of the environment, no core dump.
func confined(t *testing.T, pid int) {
	t.Helper()
	if environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || len(environ) != 0 {
		t.Errorf("Envoy's environment: %q, %v", environ, err)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(limits), "\n") {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok && strings.Fields(rest)[0] != "0" {
			t.Errorf("core dumps: %s", line)
		}
	}
}

func TestEnvoyDiesWithAKilledSidecar(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	l := launch(t, w)
	envoyPID(t, l.runDir)
	l.cmd.Process.Kill()
	l.cmd.Wait()
	eventually(t, "Envoy is gone", func() bool { return findEnvoy(l.runDir) == 0 })
}

func TestTheCommandSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"nothing said":     {nil, "say where the identity comes from"},
		"no agent":         {[]string{"--local-socket", "/x"}, "--agent"},
		"no exeatd":        {[]string{"--dev", t.TempDir(), "--agent", "triage"}, "exeatd dev does not run"},
		"an argument more": {[]string{"x"}, "unknown command"},
	} {
		out, err := exec.Command(path, c.args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}

func TestTheCommandLinksNeitherStoreNorPolicyEngine(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "../cmd/exeat-sidecar").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range strings.Fields(string(out)) {
		if strings.Contains(pkg, "go.etcd.io/") || strings.Contains(pkg, "open-policy-agent") {
			t.Errorf("it links %s", pkg)
		}
	}
}
