package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	dto "github.com/prometheus/client_model/go"

	"github.com/exeat-dev/exeat/identity/oidc/oidctest"
	"github.com/exeat-dev/exeat/server"
	"github.com/exeat-dev/exeat/server/servertest"
)

// bearer is the header pair of someone who signs in now.
func (w world) bearer(subject string, groups ...string) []string {
	w.T.Helper()
	return []string{"Authorization", "Bearer " + w.Issuer.Token(subject, groups...)}
}

// asks asks for grants through a sidecar, and gives the first.
func (w world) asks(c *http.Client, task server.StartedTask, capability, params string) server.Grant {
	w.T.Helper()
	var g server.Grant
	w.do(c, "POST", w.URL+"/v1/grants", `{"task":"`+task.ID+`","capability":"`+capability+`","params":`+params+`}`,
		"Exeat-Task-Credential", task.Credential).into(w.T, 202, &g)
	if g.State != "pending" || g.Ready || g.Waiting != "approval" || g.Approval == "" || len(g.Next) != 1 || g.Next[0].Approval != g.Approval {
		w.T.Fatalf("got %+v", g)
	}
	return g
}

func (w world) approval(id string, who ...string) server.Approval {
	w.T.Helper()
	var a server.Approval
	w.do(w.Nobody(), "GET", w.URL+"/v1/approvals/"+id, "", who...).into(w.T, 200, &a)
	return a
}

func TestPeopleApproveOverTheNetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ConnectCloser()
	c := w.As(servertest.Closer)
	task := w.task(c)
	g := w.asks(c, task, "close-ticket", `{"ticket":"OPS-42"}`)
	ann, bob := w.bearer("ann", "leads"), w.bearer("bob", "leads")
	a := w.approval(g.Approval, ann...)
	if a.State != "pending" || len(a.Digest) != 64 || a.Items[0].Calls[0] != a.Items[0].Adds[0] || a.Claimed.Purpose != "look" || a.Mine != nil || a.Rule.Count != 2 {
		t.Errorf("got %+v", a)
	}
	var list struct{ Approvals []server.Approval }
	w.do(w.Nobody(), "GET", w.URL+"/v1/approvals", "", ann...).into(t, 200, &list)
	if len(list.Approvals) != 1 || list.Approvals[0].ID != a.ID {
		t.Errorf("got %+v", list)
	}
	if families, err := w.Registry.Gather(); err != nil || !slices.ContainsFunc(families, func(f *dto.MetricFamily) bool {
		return f.GetName() == "exeat_approvals_pending" && f.GetMetric()[0].GetGauge().GetValue() == 1
	}) {
		t.Errorf("the metrics tell of no request: %v", err)
	}
	vote := `{"digest":"` + a.Digest + `","comment":"fine","ttl":"2m"}`
	approve := w.URL + "/v1/approvals/" + a.ID + "/approve"
	w.do(w.Nobody(), "POST", approve, vote, ann...).into(t, 200, &a)
	if a.Given != 1 || a.State != "pending" || a.Votes[0].Name != "ann@example.org" || a.Votes[0].Comment != "fine" {
		t.Errorf("got %+v", a)
	}
	if r := w.do(w.Nobody(), "POST", approve, vote, ann...); r.status != 409 || r.Code != "already_approved" {
		t.Errorf("twice: %d %s", r.status, r.body)
	}
	w.do(w.Nobody(), "POST", approve, vote, bob...).into(t, 200, &a)
	if a.State != "approved" || a.Items[0].State != "active" {
		t.Errorf("got %+v", a)
	}
	w.do(c, "GET", w.URL+"/v1/grants/"+g.ID+"?wait=30s", "", "Exeat-Task-Credential", task.Credential).into(t, 200, &g)
	if !g.Ready || time.Until(g.Until) > 2*time.Minute {
		t.Errorf("got %+v", g)
	}
	if r := w.do(w.Nobody(), "POST", approve, vote, w.bearer("eve", "leads")...); r.status != 409 || r.Code != "already_decided" {
		t.Errorf("replayed: %d %s", r.status, r.body)
	}
	second := w.asks(c, task, "close-ticket", `{"ticket":"OPS-42"}`)
	w.do(w.Nobody(), "POST", w.URL+"/v1/approvals/"+second.Approval+"/refuse", `{"comment":"once is enough"}`, bob...).into(t, 200, &a)
	w.do(c, "GET", w.URL+"/v1/grants/"+second.ID+"?wait=30s", "", "Exeat-Task-Credential", task.Credential).into(t, 200, &second)
	if a.State != "refused" || a.Comment != "once is enough" || second.EndReason != "refused" {
		t.Errorf("got %+v and %+v", a, second)
	}
}

// What a yes is answered that must not count. None leaves half a state.
func TestARefusedVoteSaysWhatToDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ConnectCloser()
	c := w.As(servertest.Closer)
	task := w.task(c)
	g := w.asks(c, task, "close-ticket", `{"ticket":"OPS-42"}`)
	lead := w.bearer("bob", "leads")
	digest := w.approval(g.Approval, lead...).Digest
	stale := w.Issuer.Claims("bob", "leads")
	stale["auth_time"] = time.Now().Add(-10 * time.Minute).Unix()
	old := []string{"Authorization", "Bearer " + w.Issuer.Sign(stale)}
	approve := "/v1/approvals/" + g.Approval + "/approve"
	right := `{"digest":"` + digest + `"}`
	for name, r := range map[string]struct {
		path, body string
		who        []string
		status     int
		code       string
	}{
		"without a token":        {approve, right, nil, 401, "identity_required"},
		"nobody's":               {approve, right, w.bearer("eve"), 403, "verb_required"},
		"one who may only view":  {approve, right, w.bearer("eve", "sre"), 403, "verb_required"},
		"an owner":               {approve, right, w.bearer("eve", "support", "leads"), 403, "own_agent"},
		"authenticated long ago": {approve, right, old, 401, "step_up_required"},
		"another digest":         {approve, `{"digest":"` + strings.Repeat("0", 64) + `"}`, lead, 409, "digest_mismatch"},
		"no digest":              {approve, `{}`, lead, 422, "invalid_request"},
		"an unknown field":       {approve, `{"digest":"` + digest + `","force":true}`, lead, 422, "invalid_request"},
		"more time":              {approve, `{"digest":"` + digest + `","ttl":"1h"}`, lead, 422, "not_narrower"},
		"uses below one":         {approve, `{"digest":"` + digest + `","maxUses":0}`, lead, 422, "invalid_request"},
		"a code over a network":  {approve, `{"digest":"` + digest + `","code":"AAAA-AAAA"}`, lead, 422, "invalid_request"},
		"a browser's":            {approve, right, append([]string{"Origin", "https://evil.example"}, lead...), 403, "browser_request"},
		"a form's":               {approve, right, append([]string{"Content-Type", "", "Content-Type", "text/plain"}, lead...), 415, "unsupported_media_type"},
		"two tokens":             {approve, right, append(w.bearer("ann", "leads"), lead...), 400, "malformed_header"},
		"another request's":      {"/v1/approvals/a_01ARZ3NDEKTSV4RRFFQ69G5FAV/approve", right, lead, 404, "not_found"},
		"an ID that is none":     {"/v1/approvals/x/approve", right, lead, 404, "not_found"},
		"an ID that is a path":   {"/v1/approvals/%2e%2e/approve", right, lead, 404, "no_such_route"},
		"a refusal without why":  {"/v1/approvals/" + g.Approval + "/refuse", `{}`, lead, 422, "invalid_request"},
	} {
		got := w.do(w.Nobody(), "POST", w.URL+r.path, r.body, r.who...)
		if got.status != r.status || got.Code != r.code || got.Detail == "" {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	r := w.do(w.Nobody(), "POST", w.URL+approve, right, old...)
	if r.StepUp == nil || r.StepUp.MaxAge.Duration != 5*time.Minute || !strings.Contains(r.header.Get("WWW-Authenticate"), "max_age=300") {
		t.Errorf("got %s, %q", r.body, r.header.Get("WWW-Authenticate"))
	}
	if r := w.do(w.Nobody(), "GET", w.URL+approve, "", lead...); r.status != 405 {
		t.Errorf("following a link: %d", r.status)
	}
	if r := w.do(c, "POST", w.URL+approve, right, lead...); r.status == 200 { // the agent's sidecar with a lead's token
		t.Errorf("a token beside a certificate made a person: %s", r.body)
	}
	if a := w.approval(g.Approval, lead...); a.State != "pending" || a.Given != 0 {
		t.Errorf("half a state: %+v", a)
	}
}

// Tokens that are no proof, as the API answers them.
func TestATokenThatIsNoProof(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.Must(err)
	with := func(name string, value any) string {
		claims := w.Issuer.Claims("ann", "leads")
		claims[name] = value
		return w.Issuer.Sign(claims)
	}
	parts := strings.Split(w.Issuer.Token("ann", "leads"), ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	for name, r := range map[string]struct {
		header string
		code   string
	}{
		"alg none":              {"Bearer " + none, "token_refused"},
		"another key":           {"Bearer " + oidctest.Sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: stranger}, "k1", w.Issuer.Claims("ann", "leads")), "token_refused"},
		"another audience":      {"Bearer " + with("aud", "other"), "token_refused"},
		"another issuer":        {"Bearer " + with("iss", "https://evil.example.org"), "token_refused"},
		"expired":               {"Bearer " + with("exp", time.Now().Add(-time.Hour).Unix()), "token_expired"},
		"from the future":       {"Bearer " + with("iat", time.Now().Add(time.Hour).Unix()), "token_refused"},
		"another scheme":        {"Basic YTpi", "token_refused"},
		"nothing of the scheme": {"Bearer ", "token_refused"},
	} {
		got := w.do(w.Nobody(), "GET", w.URL+"/v1/approvals", "", "Authorization", r.header)
		if got.status != 401 || got.Code != r.code || got.Detail == "" || got.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
		if _, token, _ := strings.Cut(r.header, " "); token != "" && strings.Contains(string(got.body), token) {
			t.Errorf("%s: the answer holds the token", name)
		}
	}
	w.Issuer.Down.Store(true)
	if got := w.do(w.Nobody(), "GET", w.URL+"/v1/approvals", "", w.bearer("ann", "leads")...); got.status != 503 && got.status != 200 {
		t.Errorf("an issuer that is down: %d %s", got.status, got.body)
	}
}

// What people may do otherwise, and what only agents may.
func TestWhatPeopleMayDoOverTheNetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ConnectCloser()
	c := w.As(servertest.Closer)
	task := w.task(c)
	sre, owner, docs := w.bearer("ann", "sre"), w.bearer("bob", "support"), w.bearer("eve", "docs")
	for name, r := range map[string]struct {
		method, path, body string
		who                []string
		status             int
	}{
		"sre sees a task":                {"GET", "/v1/tasks/" + task.ID, "", sre, 200},
		"its owner sees it":              {"GET", "/v1/tasks/" + task.ID, "", owner, 200},
		"another's owner does not":       {"GET", "/v1/tasks/" + task.ID, "", docs, 404},
		"a lead may not revoke it":       {"POST", "/v1/tasks/" + task.ID + "/revoke", "", w.bearer("kim", "leads"), 403},
		"another's owner may not either": {"POST", "/v1/tasks/" + task.ID + "/revoke", "", docs, 404},
		"nobody starts a task":           {"POST", "/v1/tasks", "{}", sre, 403},
		"nobody completes one":           {"POST", "/v1/tasks/" + task.ID + "/complete", "", sre, 403},
		"people see sidecars":            {"GET", "/v1/sidecars", "", sre, 200},
		"capabilities of what they view": {"GET", "/v1/capabilities?agent=closer", "", owner, 200},
		"not of others":                  {"GET", "/v1/capabilities?agent=closer", "", docs, 422},
		"nothing of the operator's":      {"POST", "/local/v1/sidecars", `{"agent":"triage"}`, sre, 404},
		"nothing by MCP":                 {"POST", "/mcp", `{}`, sre, 403},
	} {
		if got := w.do(w.Nobody(), r.method, w.URL+r.path, r.body, r.who...); got.status != r.status {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	var tasks struct{ Tasks []server.Task }
	w.do(w.Nobody(), "GET", w.URL+"/v1/tasks", "", docs...).into(t, 200, &tasks)
	if len(tasks.Tasks) != 0 {
		t.Errorf("others' tasks are listed: %+v", tasks)
	}
	w.do(w.Nobody(), "GET", w.URL+"/v1/sidecars", "", docs...).into(t, 200, &struct{ Sidecars []server.Sidecar }{})
	if got := w.do(w.Nobody(), "POST", w.URL+"/v1/tasks/"+task.ID+"/revoke", "", owner...); got.status != 200 {
		t.Errorf("its owner revokes it: %d %s", got.status, got.body)
	}
	var issuers struct{ Issuers []server.Issuing }
	w.do(w.Nobody(), "GET", w.URL+"/v1/issuers", "").into(t, 200, &issuers)
	if len(issuers.Issuers) != 1 || issuers.Issuers[0].Issuer != w.Issuer.URL || issuers.Issuers[0].ClientID != "exeat" {
		t.Errorf("got %+v", issuers)
	}
}

var shownCode = regexp.MustCompile(`The code is ([A-Z2-7]{4}-[A-Z2-7]{4})`)

// The operator's socket approves by a code that is on the server's terminal.
func TestTheOperatorApprovesByACode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ConnectCloser()
	c := w.As(servertest.Closer)
	task := w.task(c)
	g := w.asks(c, task, "label-ticket", `{}`)
	var a server.Approval
	w.do(w.Operator(), "GET", local+"/v1/approvals/"+g.Approval, "").into(t, 200, &a)
	approve := local + "/v1/approvals/" + g.Approval + "/approve"
	vote := func(code string) answer {
		return w.do(w.Operator(), "POST", approve, `{"digest":"`+a.Digest+`","code":"`+code+`"}`)
	}
	if r := w.do(w.Operator(), "POST", approve, `{"digest":"`+strings.Repeat("0", 64)+`"}`); r.Code != "digest_mismatch" || w.Terminal.String() != "" {
		t.Errorf("a code for another digest: %s, %q", r.body, w.Terminal)
	}
	if r := vote("AAAA-AAAA"); r.status != 403 || r.Code != "wrong_code" {
		t.Errorf("a code that nobody showed: %d %s", r.status, r.body)
	}
	if r := vote(""); r.status != 403 || r.Code != "code_required" || strings.Contains(string(r.body), "is on the terminal of exeatd now: "+"code") {
		t.Errorf("got %d %s", r.status, r.body)
	}
	found := shownCode.FindStringSubmatch(w.Terminal.String())
	if found == nil || !strings.Contains(w.Terminal.String(), "PUT https://tickets.example.org/v1/labels") {
		t.Fatalf("on the terminal: %q", w.Terminal)
	}
	if r := vote(""); r.status != 429 {
		t.Errorf("another code at once: %d %s", r.status, r.body)
	}
	if r := vote("AAAA-AAAA"); r.Code != "wrong_code" {
		t.Errorf("a wrong code: %s", r.body)
	}
	if r := vote(strings.ToLower(found[1])); r.status != 200 {
		t.Fatalf("the right code: %d %s", r.status, r.body)
	}
	if r := vote(found[1]); r.status == 200 {
		t.Error("a code worked twice")
	}
	w.do(w.Operator(), "GET", local+"/v1/approvals/"+g.Approval, "").into(t, 200, &a)
	if a.State != "approved" || !strings.HasPrefix(a.DecidedBy, "person/local/local/uid/") {
		t.Errorf("got %+v", a)
	}
}

func TestAListOfGrantsIsOneRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ConnectCloser()
	c := w.As(servertest.Closer)
	task := w.task(c)
	proof := []string{"Exeat-Task-Credential", task.Credential}
	entry := func(capability, params string) string {
		return `{"task":"` + task.ID + `","capability":"` + capability + `","params":` + params + `}`
	}
	var got server.Grants
	w.do(c, "POST", w.URL+"/v1/grants", ` [`+entry("read-ticket", `{"ticket":"OPS-1"}`)+`,`+entry("read-ticket", `{"ticket":"OPS-2"}`)+`]`, proof...).into(t, 201, &got)
	if len(got.Grants) != 2 || !got.Grants[1].Ready {
		t.Errorf("got %+v", got)
	}
	w.do(c, "POST", w.URL+"/v1/grants", `[`+entry("read-ticket", `{"ticket":"OPS-1"}`)+`,`+entry("label-ticket", `{}`)+`]`, proof...).into(t, 202, &got)
	if got.Grants[0].Approval == "" || got.Grants[0].Approval != got.Grants[1].Approval || got.Grants[0].State != "pending" {
		t.Errorf("got %+v", got)
	}
	for body, want := range map[string][2]string{
		`[]`: {"invalid_request", ""},
		`[` + entry("read-ticket", `{"ticket":"OPS-1"}`) + `,` + entry("other", `{}`) + `]`: {"not_eligible", "grants[1].capability"},
		`[{"task":"` + task.ID + `","capability":"read-ticket","kind":"x"}]`:                {"invalid_request", "grants[0].kind"},
		`[` + strings.Repeat(entry("other", `{}`)+`,`, 16) + entry("other", `{}`) + `]`:     {"invalid_request", ""},
	} {
		r := w.do(c, "POST", w.URL+"/v1/grants", body, proof...)
		if r.Code != want[0] || len(r.Errors) == 0 || r.Errors[0].Field != want[1] {
			t.Errorf("%.60s: %d %s", body, r.status, r.body)
		}
	}
	if r := w.do(c, "POST", w.URL+"/v1/grants/list", `[]`, proof...); r.status != 405 {
		t.Errorf("where lists are served: %d %s", r.status, r.body)
	}
}
