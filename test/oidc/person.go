package oidc

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/test/stack"
)

// Person is somebody at a machine of their own, with the exeat command.
type Person struct {
	T    testing.TB
	Name string
	// ACR is how they authenticate when a sign-in page asks.
	ACR string
	Dir string // where their exeat keeps things
	s   *stack.Stack
}

// Person gives somebody who is not signed in.
func Someone(t testing.TB, s *stack.Stack, name string) *Person {
	t.Helper()
	return &Person{T: t, Name: name, ACR: "mfa", Dir: filepath.Join(t.TempDir(), "exeat"), s: s}
}

var openThis = regexp.MustCompile(`or open (\S+) and compare`)

// Exeat runs the command with what the person types. When it wants somebody to
// sign in, the person does. It gives standard output and error, and whether the
// command succeeded.
func (p *Person) Exeat(typed string, args ...string) (stdout, stderr string, ok bool) {
	p.T.Helper()
	remote := []string{"--api", p.s.Endpoints.API, "--ca", p.s.Endpoints.CAFile}
	if args[0] == "logout" {
		remote = nil
	}
	cmd := exec.CommandContext(stack.Context(p.T), filepath.Join(p.s.Bin, "exeat"), append(append(args, remote...), "--data", p.Dir)...)
	cmd.Env = append(os.Environ(), "HOME="+filepath.Dir(p.Dir), "EXEAT_URL=")
	cmd.Stdin = strings.NewReader(typed)
	var out bytes.Buffer
	cmd.Stdout = &out
	errs, err := cmd.StderrPipe()
	if err != nil {
		p.T.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.T.Fatal(err)
	}
	said := p.follow(errs)
	ok = cmd.Wait() == nil // all of the output is there only then
	return out.String(), said, ok
}

// follow reads what the command says, and signs in each time it asks.
func (p *Person) follow(r io.Reader) string {
	p.T.Helper()
	var said strings.Builder
	done := 0
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		said.Write(buf[:n])
		if all := openThis.FindAllStringSubmatch(said.String(), -1); len(all) > done {
			done = len(all)
			SignIn(p.T, all[done-1][1], p.Name, p.ACR)
		}
		if err != nil {
			return said.String()
		}
	}
}
