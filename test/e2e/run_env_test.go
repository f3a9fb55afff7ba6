package e2e

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/test/stack"
)

// standing are secrets by the names that programs read them from.
var standing = []string{
	"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AZURE_CLIENT_SECRET",
	"GOOGLE_APPLICATION_CREDENTIALS", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "GEMINI_API_KEY", "HF_TOKEN",
	"GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN", "GITHUB_PAT", "NPM_TOKEN", "NODE_AUTH_TOKEN", "TWINE_PASSWORD", "CARGO_REGISTRY_TOKEN",
	"DOCKER_AUTH_CONFIG", "KUBECONFIG", "SSH_AUTH_SOCK", "PGPASSWORD", "MYSQL_PWD", "DATABASE_URL", "REDIS_URL", "VAULT_TOKEN",
	"SLACK_BOT_TOKEN", "SLACK_WEBHOOK_URL", "STRIPE_SECRET_KEY", "SENTRY_DSN", "JWT_SIGNING_KEY", "DEPLOY_PRIVATE_KEY",
	"TOKEN", "SECRET", "PASSWORD", "API_KEY", "service_api_key", "Some_Password", "SPIFFE_ENDPOINT_SOCKET",
}

// led are variables that would lead a program past the sidecar, or have it
// trust somebody else.
var led = []string{
	"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy",
	"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "NODE_USE_ENV_PROXY", "GIT_SSL_CAINFO",
	"AWS_CA_BUNDLE", "PIP_CERT", "DENO_CERT", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "JAVA_TOOL_OPTIONS",
	"EXEAT_URL", "EXEAT_TASK", "EXEAT_TASK_CREDENTIAL", "TICKETS_API_KEY",
}

// surroundings runs a command that shows its environment, and each certificate
// file that it names, under exeat run.
func surroundings(t *testing.T, st *stack.Stack, vars []string, flags ...string) map[string]string {
	t.Helper()
	script := `for f in "$SSL_CERT_FILE" "$NODE_EXTRA_CA_CERTS"; do cat "$f" >>"$SEEN" || exit 9; printf '\n===\n' >>"$SEEN"; done; exec env -0`
	args := append(append([]string{"--agent", "triage", "--quiet"}, flags...), "--", "sh", "-c", script)
	r, code := run(t, st, vars, args...)
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	got := map[string]string{}
	for _, kv := range strings.Split(strings.TrimSuffix(r.out.String(), "\x00"), "\x00") {
		name, value, _ := strings.Cut(kv, "=")
		if _, twice := got[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		got[name] = value
	}
	return got
}

func runGivesWhatProgramsRead(t *testing.T, st *stack.Stack) {
	t.Parallel()
	seen := filepath.Join(t.TempDir(), "seen")
	vars := []string{"SEEN=" + seen, "MONKEY=1", "LANG=C.UTF-8", "KEYBOARD=us"}
	for _, name := range slices.Concat(standing, led) {
		vars = append(vars, name+"=inherited")
	}
	got := surroundings(t, st, vars, "--keep-env", "NPM_TOKEN", "--keep-env", "MYSQL_PWD")
	for name, value := range got {
		if kept := name == "NPM_TOKEN" || name == "MYSQL_PWD"; kept != (value == "inherited") {
			t.Errorf("%s=%s reached the command", name, value)
		}
	}
	proxied(t, got)
	trusts(t, got, seen)
	for name, want := range map[string]string{
		"MONKEY": "1", "LANG": "C.UTF-8", "KEYBOARD": "us", "NODE_USE_ENV_PROXY": "1", "TICKETS_API_KEY": "exeat",
		"NPM_TOKEN": "inherited", "MYSQL_PWD": "inherited",
	} {
		if got[name] != want {
			t.Errorf("%s=%s, want %s", name, got[name], want)
		}
	}
	if _, there := got["EXEAT_DATA"]; there {
		t.Error("the command is told where exeatd keeps its data")
	}
}

// proxied: whatever name a program reads, it gets the sidecar, as this task.
func proxied(t *testing.T, got map[string]string) {
	t.Helper()
	u, err := url.Parse(got["HTTPS_PROXY"])
	if err != nil || u.Scheme != "http" || u.Hostname() != "127.0.0.1" || u.Port() == "" {
		t.Fatalf("HTTPS_PROXY=%s: %v", got["HTTPS_PROXY"], err)
	}
	password, _ := u.User.Password()
	if u.User.Username() != got["EXEAT_TASK"] || !strings.HasPrefix(got["EXEAT_TASK"], "t_") || password != got["EXEAT_TASK_CREDENTIAL"] || password == "" {
		t.Error("the proxy's credential is not the task's")
	}
	for _, name := range []string{"HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"} {
		if got[name] != u.String() {
			t.Errorf("%s=%s, want %s", name, got[name], u)
		}
	}
	for _, name := range []string{"NO_PROXY", "no_proxy"} {
		if got[name] != "127.0.0.1,localhost,::1" {
			t.Errorf("%s=%s leads elsewhere than to loopback", name, got[name])
		}
	}
	for _, option := range []string{"-Dhttps.proxyHost=127.0.0.1", "-Dhttps.proxyPort=" + u.Port(), "-Dhttp.proxyPort=" + u.Port(), "-Djavax.net.ssl.trustStore="} {
		if !strings.Contains(got["JAVA_TOOL_OPTIONS"], option) {
			t.Errorf("JAVA_TOOL_OPTIONS=%s lacks %s", got["JAVA_TOOL_OPTIONS"], option)
		}
	}
	if api, err := url.Parse(got["EXEAT_URL"]); err != nil || api.Hostname() != "127.0.0.1" || api.Port() == u.Port() {
		t.Errorf("EXEAT_URL=%s", got["EXEAT_URL"])
	}
}

// trusts: programs that replace their roots get the system's and the sidecar's
// CA, those that add to them get the CA. seen holds both files, as they were.
func trusts(t *testing.T, got map[string]string, seen string) {
	t.Helper()
	text, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	files := strings.Split(string(text), "\n===\n")
	if ca := strings.TrimSpace(files[1]); strings.Count(ca, "BEGIN CERTIFICATE") != 1 || !strings.Contains(files[0], ca) {
		t.Error("the sidecar's CA is not in both files")
	}
	for name, like := range map[string]string{
		"REQUESTS_CA_BUNDLE": "SSL_CERT_FILE", "CURL_CA_BUNDLE": "SSL_CERT_FILE", "GIT_SSL_CAINFO": "SSL_CERT_FILE",
		"AWS_CA_BUNDLE": "SSL_CERT_FILE", "PIP_CERT": "SSL_CERT_FILE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": "SSL_CERT_FILE",
		"DENO_CERT": "NODE_EXTRA_CA_CERTS",
	} {
		if got[name] != got[like] || got[name] == "" {
			t.Errorf("%s=%s, want what %s is: %s", name, got[name], like, got[like])
		}
	}
	if got["SSL_CERT_FILE"] == got["NODE_EXTRA_CA_CERTS"] {
		t.Errorf("one file is both bundle and CA: %s", got["SSL_CERT_FILE"])
	}
}
