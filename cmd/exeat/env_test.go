package main

import (
	"strings"
	"testing"
)

func TestEnvironmentHoldsNoStandingSecret(t *testing.T) {
	t.Parallel()
	s := surroundings{proxy: "127.0.0.1:1", user: "t_1", pass: "pw", bundle: "/b.pem", ca: "/ca.pem", api: "http://127.0.0.1:2",
		task: "t_1", clientEnv: map[string]string{"TICKETS_API_KEY": "exeat"}, keep: []string{"KEPT_TOKEN"}}
	got := map[string]string{}
	for _, kv := range s.environ([]string{
		"PATH=/bin", "OPENAI_API_KEY=sk", "GITHUB_TOKEN=x", "aws_secret_access_key=y", "KEPT_TOKEN=k", "PGPASSWORD=z",
		"NO_PROXY=*", "https_proxy=http://elsewhere", "TICKETS_API_KEY=real", "SSH_AUTH_SOCK=/s", "MONKEY=1",
	}) {
		k, v, _ := strings.Cut(kv, "=")
		if _, twice := got[k]; twice {
			t.Errorf("%s is there twice", k)
		}
		got[k] = v
	}
	want := map[string]string{
		"PATH": "/bin", "KEPT_TOKEN": "k", "MONKEY": "1", "TICKETS_API_KEY": "exeat",
		"https_proxy": "http://t_1:pw@127.0.0.1:1", "HTTPS_PROXY": "http://t_1:pw@127.0.0.1:1",
		"NO_PROXY": loopback, "no_proxy": loopback, "SSL_CERT_FILE": "/b.pem", "NODE_EXTRA_CA_CERTS": "/ca.pem",
		"EXEAT_URL": "http://127.0.0.1:2", "EXEAT_TASK": "t_1",
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s = %q, want %q", k, got[k], v)
		}
	}
	for _, k := range []string{"OPENAI_API_KEY", "GITHUB_TOKEN", "aws_secret_access_key", "PGPASSWORD", "SSH_AUTH_SOCK"} {
		if v, there := got[k]; there {
			t.Errorf("%s = %q reached the command", k, v)
		}
	}
}
