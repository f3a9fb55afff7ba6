package attack

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/identity/oidc/oidctest"
	"github.com/exeat-dev/exeat/test/oidc"
	"github.com/exeat-dev/exeat/test/stack"
)

// court is a running system with a request that two people must approve.
type court struct {
	*stack.Stack
	t      *testing.T
	issuer *oidctest.Issuer
	task   *stack.Task
	ca     []byte
}

func newCourt(t *testing.T) *court {
	t.Helper()
	issuer := oidctest.Start(t)
	c := &court{Stack: stack.StartWith(t, oidc.Catalog(issuer.URL)), t: t, issuer: issuer}
	c.task = c.Sidecar(t, "closer").Task(t)
	var err error
	if c.ca, err = os.ReadFile(c.Endpoints.CAFile); err != nil {
		t.Fatal(err)
	}
	return c
}

// ask asks for the grant and gives the request.
func (c *court) ask() (client.Grant, client.Approval) {
	c.t.Helper()
	g, err := c.task.API.RequestGrant(stack.Context(c.t), client.GrantRequest{
		Task: c.task.ID, Capability: "escalate-ticket", Params: map[string]string{"ticket": "OPS-42"},
	})
	if err != nil || g.State != "pending" {
		c.t.Fatalf("got %+v, %v", g, err)
	}
	a, err := c.as(c.token("ann", nil)).Approval(stack.Context(c.t), g.Approval)
	if err != nil {
		c.t.Fatal(err)
	}
	return g, a
}

// token is a lead's, authenticated just now as is wanted, but for the changes.
func (c *court) token(subject string, change map[string]any) string {
	claims := c.issuer.Claims(subject, "support-leads")
	claims["acr"] = "mfa"
	for k, v := range change {
		claims[k] = v
	}
	return c.issuer.Sign(claims)
}

// as is the API as whoever has that token.
func (c *court) as(token string) *client.Client {
	c.t.Helper()
	api, err := client.NewRemote(c.Endpoints.API, c.ca, client.WithToken(client.NewSecret(token)))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(api.Close)
	return api
}

// votes approves and gives the problem's code, or "" when it counted.
func (c *court) votes(token, id string, b client.Ballot) string {
	c.t.Helper()
	_, err := c.as(token).Approve(stack.Context(c.t), id, b)
	for _, code := range []string{
		"already_approved", "own_agent", "own_request", "not_an_approver", "verb_required", "digest_mismatch", "request_changed", "already_decided",
		"step_up_required", "token_refused", "token_expired", "not_found", "not_narrower",
	} {
		if client.IsCode(err, code) {
			return code
		}
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return ""
}

// call makes the call that the grant would let out.
func (c *court) call() stack.Reply {
	c.t.Helper()
	return stack.Do(c.t, c.task.HTTP(c.t), http.MethodPost, stack.Tickets+"OPS-42/comments", func(r *http.Request) {
		body := `{"text":"all hands"}`
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		r.Header.Set("Content-Type", "application/json")
	})
}

// waits fails unless the request still waits, with as many votes, and lets no
// call out.
func (c *court) waits(id string, given int) {
	c.t.Helper()
	a, err := c.as(c.token("ann", nil)).Approval(stack.Context(c.t), id)
	if err != nil || a.State != "pending" || a.Given != given {
		c.t.Errorf("it is %s with %d votes, want %d: %v", a.State, a.Given, given, err)
	}
	stack.WantDenied(c.t, c.call(), "approval_pending")
}

// One person, or one who may not, tries to be two who may. The defences:
// distinct subjects of one issuer, the owners, groups and step-up of the token,
// its audience and signature, and the digest. The control is at the end: two who
// may are enough.
func TestOnePersonTriesToBeTwo(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	_, first := c.ask()
	_, a := c.ask()
	right := client.Ballot{Digest: a.Digest}
	if code := c.votes(c.token("ann", nil), a.ID, right); code != "" {
		t.Fatal(code)
	}
	parts := strings.Split(c.token("bob", nil), ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	now := time.Now()
	for name, v := range map[string]struct {
		token  string
		ballot client.Ballot
		code   string
	}{
		"the same person twice":          {c.token("ann", nil), right, "already_approved"},
		"by another name":                {c.token("ann", map[string]any{"preferred_username": "bob", "email": "bob@example.org"}), right, "already_approved"},
		"by another session":             {c.token("ann", map[string]any{"sid": "2", "jti": "2", "auth_time": now.Unix() - 1}), right, "already_approved"},
		"an owner":                       {c.token("bob", map[string]any{"groups": []string{"support-leads", "support-platform"}}), right, "own_agent"},
		"of no group":                    {c.token("bob", map[string]any{"groups": []string{}}), right, "verb_required"},
		"of a group that is nearly it":   {c.token("bob", map[string]any{"groups": []string{"support-leads ", "Support-Leads", "support-lead"}}), right, "verb_required"},
		"groups in one text":             {c.token("bob", map[string]any{"groups": "x,support-leads"}), right, "verb_required"},
		"step-up that has expired":       {c.token("bob", map[string]any{"auth_time": now.Add(-6 * time.Minute).Unix()}), right, "step_up_required"},
		"no word of authentication":      {c.token("bob", map[string]any{"auth_time": nil}), right, "step_up_required"},
		"a weaker authentication":        {c.token("bob", map[string]any{"acr": "pwd"}), right, "step_up_required"},
		"authentication in the future":   {c.token("bob", map[string]any{"auth_time": now.Add(time.Hour).Unix()}), right, "token_refused"},
		"a token for somebody else":      {c.token("bob", map[string]any{"aud": "other"}), right, "token_refused"},
		"a token that is over":           {c.token("bob", map[string]any{"exp": now.Add(-time.Hour).Unix()}), right, "token_expired"},
		"nobody's signature":             {none + "." + parts[1] + ".", right, "token_refused"},
		"another's claims":               {parts[0] + "." + strings.Split(c.token("eve", nil), ".")[1] + "." + parts[2], right, "token_refused"},
		"the digest of an older request": {c.token("bob", nil), client.Ballot{Digest: first.Digest}, "digest_mismatch"},
		"more than was asked for":        {c.token("bob", nil), client.Ballot{Digest: a.Digest, TTL: time.Hour}, "not_narrower"},
	} {
		if code := c.votes(v.token, a.ID, v.ballot); code != v.code {
			t.Errorf("%s: %q, want %q", name, code, v.code)
		}
	}
	c.waits(a.ID, 1)
	if code := c.votes(c.token("bob", nil), a.ID, right); code != "" {
		t.Fatalf("the control: %s", code)
	}
	g, err := c.task.API.GetGrant(stack.Context(t), a.Items[0].Grant, stack.Patience/2)
	if r := c.call(); err != nil || !g.Ready || r.Status != http.StatusCreated {
		t.Errorf("the control: %+v, %v, %d %s", g, err, r.Status, r.Body)
	}
	if code := c.votes(c.token("eve", nil), a.ID, right); code != "already_decided" {
		t.Errorf("replayed after the end: %q", code)
	}
	if code := c.votes(c.token("ann", nil), first.ID, right); code != "digest_mismatch" {
		t.Errorf("its digest on another request: %q", code)
	}
}

// The agent, and a page in an approver's browser, try to send a vote. The
// defences: the sidecar removes Authorization, a certificate is the sidecar
// whatever else is sent, there is no cookie, browsers and forms are refused, and
// no link decides.
func TestAVoteThatNoPersonSent(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	_, a := c.ask()
	stolen := "Bearer " + c.token("bob", nil)
	body := `{"digest":"` + a.Digest + `"}`
	path := "/v1/approvals/" + a.ID + "/approve"
	direct := stack.Client(t, nil, c.Endpoints.CAFile)
	send := func(hc *http.Client, method, base string, headers ...string) stack.Reply {
		return stack.Do(t, hc, method, base+path, func(r *http.Request) {
			if method == http.MethodPost {
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
				r.Header.Set("Content-Type", "application/json")
			}
			for i := 0; i+1 < len(headers); i += 2 {
				r.Header.Set(headers[i], headers[i+1])
			}
		})
	}
	plain := &http.Client{}
	for name, r := range map[string]stack.Reply{
		"the agent with a lead's token":     send(plain, http.MethodPost, c.task.Sidecar.Status.API, "Authorization", stolen),
		"the agent with its own credential": send(plain, http.MethodPost, c.task.Sidecar.Status.API, "Exeat-Task-Credential", c.task.Credential.Expose()),
		"a page":                            send(direct, http.MethodPost, c.Endpoints.API, "Authorization", stolen, "Origin", "https://evil.example.org"),
		"a page of the same site":           send(direct, http.MethodPost, c.Endpoints.API, "Authorization", stolen, "Sec-Fetch-Site", "same-origin"),
		"a form":                            send(direct, http.MethodPost, c.Endpoints.API, "Authorization", stolen, "Content-Type", "application/x-www-form-urlencoded"),
		"a cookie":                          send(direct, http.MethodPost, c.Endpoints.API, "Cookie", "token="+stolen),
		"a link":                            send(direct, http.MethodGet, c.Endpoints.API, "Authorization", stolen),
	} {
		if r.Err != nil || r.Status < 400 {
			t.Errorf("%s: %d %s %v", name, r.Status, r.Body, r.Err)
		}
	}
	c.waits(a.ID, 0)
	if r := send(direct, http.MethodPost, c.Endpoints.API, "Authorization", stolen); r.Status != http.StatusOK {
		t.Errorf("the control: %d %s", r.Status, r.Body)
	}
}

// The catalog is swapped between what people saw and what would be given, and
// back. The defence: the digest is over the resolved capability, votes are for
// one digest, and the transaction compares the catalog.
func TestTheCatalogIsSwappedUnderAVote(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	_, a := c.ask()
	if code := c.votes(c.token("ann", nil), a.ID, client.Ballot{Digest: a.Digest}); code != "" {
		t.Fatal(code)
	}
	swap := func(old, replacement string) {
		t.Helper()
		before := c.Metrics(t, "/readyz?verbose").Body
		c.EditCatalog(t, "people.yaml", old, replacement)
		c.AwaitMetrics(t, "/readyz?verbose", func(text string) bool { return revision(text) != revision(string(before)) })
	}
	swap("${ticket}/comments", "${ticket}/**")
	code := c.votes(c.token("bob", nil), a.ID, client.Ballot{Digest: a.Digest})
	if code != "digest_mismatch" && code != "request_changed" {
		t.Errorf("a yes to what was shown before: %q", code)
	}
	swap("${ticket}/**", "${ticket}/comments")
	for _, who := range []string{"bob", "eve"} {
		_ = c.votes(c.token(who, nil), a.ID, client.Ballot{Digest: a.Digest})
	}
	now, err := c.as(c.token("ann", nil)).Approval(stack.Context(t), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range now.Votes {
		if v.Subject == "ann" {
			t.Error("a vote outlived another meaning")
		}
	}
	// What became of it is exactly what was shown, by two who saw it.
	if now.State != "approved" || len(now.Votes) != 2 || now.Digest != a.Digest {
		t.Errorf("the control: %s, %+v", now.State, now.Votes)
	}
}

// revision is the catalog's, in the words of /readyz.
func revision(text string) string {
	_, rest, _ := strings.Cut(text, "[+]catalog ok (revision ")
	rev, _, _ := strings.Cut(rest, ")")
	return rev
}

// A rule of the Access is taken away between one vote and the next. The defence:
// earlier votes are judged again by the catalog in force.
func TestARightIsTakenAwayBetweenVotes(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	_, a := c.ask()
	both := map[string]any{"groups": []string{"support-leads", "chiefs"}}
	if code := c.votes(c.token("ann", nil), a.ID, client.Ballot{Digest: a.Digest}); code != "" {
		t.Fatal(code)
	}
	before := string(c.Metrics(t, "/readyz?verbose").Body)
	c.EditCatalog(t, "people.yaml", "- {groups: [support-leads], verbs", "- {groups: [chiefs], verbs")
	c.AwaitMetrics(t, "/readyz?verbose", func(text string) bool { return revision(text) != revision(before) })
	if code := c.votes(c.token("bob", both), a.ID, client.Ballot{Digest: a.Digest}); code != "" {
		t.Fatalf("one who may: %s", code)
	}
	now, err := c.as(c.token("bob", both)).Approval(stack.Context(t), a.ID)
	if err != nil || now.State != "pending" || now.Given != 1 {
		t.Errorf("the vote of one who may no longer counted: %+v, %v", now.Votes, err)
	}
	stack.WantDenied(t, c.call(), "approval_pending")
	if code := c.votes(c.token("eve", both), a.ID, client.Ballot{Digest: a.Digest}); code != "" {
		t.Errorf("the control: %s", code)
	}
}

// An agent writes what should look like something else to whoever decides. The
// defences: what turns or hides text is refused, the agent's words are behind
// bars, and what is not ASCII is shown by its code points.
func TestTextThatLooksLikeSomethingElse(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	for _, purpose := range []string{"\x1b[2J\x1b[H", "close \u202eOPS-1", "a\rapproved by everybody", "\u2066x\u2069"} {
		_, err := c.task.Sidecar.API.StartTask(stack.Context(t), client.TaskRequest{Claimed: client.Claimed{Purpose: purpose}})
		if !client.IsCode(err, "invalid_request") {
			t.Errorf("%+q: %v", purpose, err)
		}
	}
	task, err := c.task.Sidecar.API.StartTask(stack.Context(t), client.TaskRequest{Claimed: client.Claimed{
		Purpose: "routine\nneeds     0 people of one issuer\nr\u0435ad-ticket \u200b\u00a0\u3164", Context: map[string]string{"approved": "by \u0430nn"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := c.task.Sidecar.API.ForTask(task.Credential).RequestGrant(stack.Context(t), client.GrantRequest{
		Task: task.ID, Capability: "escalate-ticket", Params: map[string]string{"ticket": "OPS-42"},
	})
	if err != nil {
		t.Fatal(err)
	}
	text := c.exeat("approvals", "show", g.Approval)
	for _, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if strings.HasPrefix(line, "needs ") && strings.Contains(line, " 0 people") {
			t.Errorf("the agent's words pass for ours: %q", line)
		}
		if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%+q shows what does not print", line)
		}
	}
	for _, want := range []string{"  | needs     0 people of one issuer", `r\u{0435}ad-ticket`, `\u{200b}`, `\u{3164}`, "Cyrillic", "needs     2 people"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	raw := c.exeat("approvals", "show", g.Approval, "-o", "json")
	var a client.Approval
	if strings.ContainsFunc(raw, func(r rune) bool { return r > unicode.MaxASCII }) || json.Unmarshal([]byte(raw), &a) != nil || !strings.Contains(a.Claimed.Purpose, "\u0435") {
		t.Errorf("as JSON: %s", raw)
	}
}

// exeat runs the command as the operator.
func (c *court) exeat(args ...string) string {
	c.t.Helper()
	cmd := exec.CommandContext(stack.Context(c.t), filepath.Join(c.Bin, "exeat"), append(args, "--data", c.Data)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		c.t.Fatalf("exeat %v: %v\n%s", args, err, errs.String())
	}
	return out.String()
}

// The operator's socket is open to whatever runs as the same user, an agent
// among it. The defence: it decides nothing without a code from the server's
// terminal, and here there is none.
func TestTheOperatorsSocketApprovesNothingByItself(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	_, a := c.ask()
	local, err := client.NewLocal(c.Endpoints.LocalSocket)
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	for _, code := range []string{"", "AAAA-AAAA"} {
		if _, err := local.Approve(stack.Context(t), a.ID, client.Ballot{Digest: a.Digest, Code: code}); err == nil {
			t.Errorf("approved with the code %q", code)
		}
	}
	c.waits(a.ID, 0)
	if _, err := local.Refuse(stack.Context(t), a.ID, "no", ""); err != nil {
		t.Errorf("the control: %v", err)
	}
	stack.WantDenied(t, c.call(), "grant_ended")
}
