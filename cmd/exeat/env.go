package main

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// surroundings is what a command gets instead of keys.
type surroundings struct {
	proxy      string // host:port
	user, pass string // the task's proxy credential
	api        string // EXEAT_URL
	task       string
	bundle     string // system roots and the sidecar's CA
	ca         string // the sidecar's CA alone
	trustStore string // the bundle for Java; may be empty
	clientEnv  map[string]string
	keep       []string
}

// loopback is not proxied: it is the API's listener, and what the command
// itself serves.
const loopback = "127.0.0.1,localhost,::1"

// environ is base without standing secrets, with the task's own variables.
func (s surroundings) environ(base []string) []string {
	set := s.variables()
	out := make([]string, 0, len(base)+len(set))
	for _, kv := range base {
		name, _, _ := strings.Cut(kv, "=")
		if _, replaced := set[name]; replaced {
			continue
		}
		if standingSecret(name) && !slices.Contains(s.keep, name) {
			continue
		}
		out = append(out, kv)
	}
	for name, value := range set {
		out = append(out, name+"="+value)
	}
	slices.Sort(out)
	return out
}

func (s surroundings) variables() map[string]string {
	set := map[string]string{}
	for k, v := range s.clientEnv {
		set[k] = v
	}
	proxy := (&url.URL{Scheme: "http", User: url.UserPassword(s.user, s.pass), Host: s.proxy}).String()
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"} {
		set[name], set[strings.ToLower(name)] = proxy, proxy
	}
	set["NO_PROXY"], set["no_proxy"] = loopback, loopback
	set["NODE_USE_ENV_PROXY"] = "1"
	for _, name := range []string{
		// One name per family of programs: OpenSSL and Go, requests, curl, git, AWS, pip, gRPC.
		"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE",
		"PIP_CERT", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
	} {
		set[name] = s.bundle
	}
	// These add to the system's roots instead of replacing them.
	set["NODE_EXTRA_CA_CERTS"], set["DENO_CERT"] = s.ca, s.ca
	set["JAVA_TOOL_OPTIONS"] = s.java()
	set["EXEAT_URL"], set["EXEAT_TASK"], set["EXEAT_TASK_CREDENTIAL"] = s.api, s.task, s.pass
	return set
}

// java gives the JVM its proxy. The JVM takes no credential from properties:
// a program must install an Authenticator, for which the user and password
// stand in EXEAT_TASK and EXEAT_TASK_CREDENTIAL.
func (s surroundings) java() string {
	host, port, _ := strings.Cut(s.proxy, ":")
	opts := []string{
		"-Dhttps.proxyHost=" + host, "-Dhttps.proxyPort=" + port,
		"-Dhttp.proxyHost=" + host, "-Dhttp.proxyPort=" + port,
		"-Dhttp.nonProxyHosts=" + strings.ReplaceAll(loopback, ",", "|"),
		"-Djdk.http.auth.tunneling.disabledSchemes=",
	}
	if s.trustStore != "" {
		opts = append(opts, "-Djavax.net.ssl.trustStore="+s.trustStore,
			"-Djavax.net.ssl.trustStoreType=PKCS12", "-Djavax.net.ssl.trustStorePassword=changeit")
	}
	return strings.Join(opts, " ")
}

// sibling finds a program beside this one, else on PATH by its bare name.
func sibling(name string) string {
	self, err := os.Executable()
	if err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if _, err := os.Stat(beside); err == nil {
			return beside
		}
	}
	return name
}
