package oidc

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/test/stack"
)

// everybody is who there is at the provider.
var everybody = map[string][]string{
	"ann": {"support-leads"}, "bob": {"support-leads"}, "kim": {"support-leads", "support-platform"}, "eve": {}, "sam": {"sre"},
}

// scene is a running system whose people sign in at a real provider, and a
// request that waits for them.
type scene struct {
	*stack.Stack
	provider *Provider
	task     *stack.Task
	grant    client.Grant
}

func newScene(t *testing.T) *scene {
	t.Helper()
	p := Start(t, everybody)
	s := &scene{Stack: stack.StartWith(t, Catalog(p.Issuer)), provider: p}
	s.task = s.Sidecar(t, "closer").Task(t)
	s.grant = s.asks(t)
	return s
}

func (s *scene) asks(t *testing.T) client.Grant {
	t.Helper()
	g, err := s.task.API.RequestGrant(stack.Context(t), client.GrantRequest{
		Task: s.task.ID, Capability: "escalate-ticket", Params: map[string]string{"ticket": "OPS-42"},
	})
	if err != nil || g.State != "pending" || g.Approval == "" {
		t.Fatalf("got %+v, %v", g, err)
	}
	return g
}

// call makes the call that the grant is about.
func (s *scene) call(t *testing.T) stack.Reply {
	t.Helper()
	return stack.Do(t, s.task.HTTP(t), http.MethodPost, stack.Tickets+"OPS-42/comments", func(r *http.Request) {
		body := `{"text":"all hands"}`
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		r.Header.Set("Content-Type", "application/json")
	})
}

func (s *scene) person(t *testing.T, name string) *Person {
	t.Helper()
	p := Someone(t, s.Stack, name)
	out, said, ok := p.Exeat("", "login")
	if !ok || !strings.Contains(out, "signed in as "+name+"@example.org") {
		t.Fatalf("%s could not sign in: %s%s", name, out, said)
	}
	return p
}

func (p *Person) digest(id string) string {
	p.T.Helper()
	out, said, ok := p.Exeat("", "approvals", "show", id, "-o", "json")
	var a client.Approval
	if !ok || json.Unmarshal([]byte(out), &a) != nil {
		p.T.Fatalf("show: %s%s", out, said)
	}
	return a.Digest
}

// The whole way: people sign in by the device flow, look at what an agent asks
// for, approve it, and the agent's very next call succeeds.
func TestTwoPeopleApproveWithTheCommand(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	if r := s.call(t); r.Status != http.StatusForbidden || !strings.Contains(string(r.Body), `"approval_pending"`) || !strings.Contains(string(r.Body), s.grant.Approval) {
		t.Errorf("meanwhile: %d %s", r.Status, r.Body)
	}
	ann, bob := s.person(t, "ann"), s.person(t, "bob")
	info, err := os.Stat(filepath.Join(ann.Dir, "login.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token's file: %v, %v", info, err)
	}
	if out, said, ok := ann.Exeat("", "approvals", "list"); !ok || !strings.Contains(out, s.grant.Approval) || !strings.Contains(out, "escalate-ticket ticket=OPS-42") {
		t.Errorf("list: %s%s", out, said)
	}
	digest := ann.digest(s.grant.Approval)
	out, said, ok := ann.Exeat(digest[:6]+"\n", "approvals", "approve", s.grant.Approval, "--comment", "go on")
	if !ok || !strings.Contains(out, "pending, 1 of 2") || !strings.Contains(said, "+   POST https://tickets.example.org/v1/tickets/OPS-42/comments") {
		t.Fatalf("ann: %s%s", out, said)
	}
	if out, said, ok := ann.Exeat("", "approvals", "approve", s.grant.Approval, "--digest", digest); ok || !strings.Contains(said, "already_approved") {
		t.Errorf("ann once more: %s%s", out, said)
	}
	if out, said, ok := bob.Exeat("no\n", "approvals", "approve", s.grant.Approval); ok || !strings.Contains(said, "nothing was approved") {
		t.Errorf("bob thinks better of it: %s%s", out, said)
	}
	if out, said, ok := bob.Exeat("", "approvals", "approve", s.grant.Approval, "--digest", digest); !ok || !strings.Contains(out, "approved") {
		t.Fatalf("bob: %s%s", out, said)
	}
	g, err := s.task.API.GetGrant(stack.Context(t), s.grant.ID, stack.Patience/2)
	if err != nil || !g.Ready {
		t.Fatalf("got %+v, %v", g, err)
	}
	if r := s.call(t); r.Status != http.StatusCreated {
		t.Errorf("the very next call: %d %s", r.Status, r.Body)
	}
	if out, said, ok := bob.Exeat("", "approvals", "show", s.grant.Approval); !ok || !strings.Contains(out, "go on") || !strings.Contains(out, "ann@example.org") {
		t.Errorf("show: %s%s", out, said)
	}
	if _, _, ok := ann.Exeat("", "logout"); !ok {
		t.Error("ann could not sign out")
	}
	if _, said, ok := ann.Exeat("", "approvals", "list"); ok || !strings.Contains(said, "nobody is signed in") {
		t.Errorf("after signing out: %s", said)
	}
}

// Whoever has not authenticated as is wanted is asked to, at the provider.
func TestStepUpAtTheProvider(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ann := Someone(t, s.Stack, "ann")
	ann.ACR = "pwd"
	if out, said, ok := ann.Exeat("", "login"); !ok {
		t.Fatalf("%s%s", out, said)
	}
	digest := ann.digest(s.grant.Approval)
	if out, said, ok := ann.Exeat("", "approvals", "approve", s.grant.Approval, "--digest", digest); ok || !strings.Contains(said, "step_up_required") {
		t.Errorf("a weaker way was enough: %s%s", out, said)
	}
	ann.ACR = "mfa"
	out, said, ok := ann.Exeat("", "approvals", "approve", s.grant.Approval, "--digest", digest)
	if !ok || !strings.Contains(said, "You must have authenticated within 5m0s") || !strings.Contains(out, "pending, 1 of 2") {
		t.Errorf("after stepping up: %s%s", out, said)
	}
}

// What people may not, by what their provider says of them.
func TestWhoMayNotApproveAtTheProvider(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	digest := s.person(t, "ann").digest(s.grant.Approval)
	for name, code := range map[string]string{"kim": "own_agent", "eve": "verb_required", "sam": "verb_required"} {
		if out, said, ok := s.person(t, name).Exeat("", "approvals", "approve", s.grant.Approval, "--digest", digest); ok || !strings.Contains(said, code) {
			t.Errorf("%s: %s%s", name, out, said)
		}
	}
	// A group that was taken away counts from the next token on.
	bob := s.person(t, "bob")
	s.provider.Groups(t, "bob")
	if out, said, ok := bob.Exeat("", "login", "--max-age", "1s"); !ok {
		t.Fatalf("%s%s", out, said)
	}
	if out, said, ok := bob.Exeat("", "approvals", "approve", s.grant.Approval, "--digest", digest); ok || !strings.Contains(said, "verb_required") {
		t.Errorf("without the group: %s%s", out, said)
	}
	// A token that was issued to another client of the same provider is nobody's.
	other := Someone(t, s.Stack, "ann")
	if out, said, ok := other.Exeat("", "login", "--issuer", s.provider.Issuer, "--client-id", "other"); !ok {
		t.Fatalf("%s%s", out, said)
	}
	if out, said, ok := other.Exeat("", "approvals", "list"); ok || !strings.Contains(said, "token_refused") {
		t.Errorf("another client's token: %s%s", out, said)
	}
}
