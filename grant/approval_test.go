package grant_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

// approvalsJSON has a capability that two people must approve just after they
// have authenticated, one that one person must, and one that nobody is asked for.
const approvalsJSON = `{
"destinations": [{"metadata": {"name": "tickets"}, "spec": {"hosts": ["tickets.example.org"]}}],
"providers": [{"metadata": {"name": "jwt"}, "spec": {"jwt": {"audience": "https://tickets.example.org"}}}],
"capabilities": [
  {"metadata": {"name": "close-ticket"}, "spec": {
    "description": "Close one ticket.", "risk": "high", "destination": "tickets", "params": {"ticket": {"pattern": "[A-Z]+-[0-9]+"}},
    "calls": [{"method": "POST", "path": "/v1/tickets/${ticket}/transitions", "body": "any"}],
    "credential": {"provider": "jwt", "scope": {"scope": "ticket:write", "ticket": "${ticket}"}},
    "limits": {"ttl": "5m", "maxTTL": "15m"},
    "approval": {"count": 2, "groups": ["leads", "chiefs"], "expiresAfter": "30m", "stepUp": {"maxAge": "5m"}}}},
  {"metadata": {"name": "label-ticket"}, "spec": {"destination": "tickets",
    "calls": [{"method": "PUT", "path": "/v1/labels"}], "limits": {"ttl": "10m"},
    "approval": {"groups": ["leads"]}}},
  {"metadata": {"name": "browse"}, "spec": {"destination": "tickets", "calls": [{"method": "GET", "path": "/v1/tickets"}]}}
],
"agents": [{"metadata": {"name": "triage"}, "spec": {
    "spiffeID": "spiffe://example.org/agent/triage", "sidecarID": "spiffe://example.org/sidecar/triage/{instance}",
    "owner": {"groups": ["support"], "contact": "support@example.org"},
    "capabilities": [{"name": "close-ticket"}, {"name": "label-ticket"}, {"name": "browse"}]}}],
"access": [
  {"metadata": {"name": "people"}, "spec": {"issuer": {"url": "https://login.example.org", "clientID": "exeat"}, "rules": [
    {"groups": ["leads", "chiefs"], "verbs": ["view", "approve"], "owners": ["support"]},
    {"groups": ["watchers"], "verbs": ["view"]},
    {"groups": ["anybody"], "verbs": ["view", "approve"]}]}},
  {"metadata": {"name": "others"}, "spec": {"issuer": {"url": "https://other.example.org", "clientID": "exeat"}, "rules": [
    {"groups": ["leads"], "verbs": ["view", "approve"]}]}}
]}`

const (
	login = "https://login.example.org"
	other = "https://other.example.org"
)

func newApprovals(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.publish(approvalsJSON)
	w.cars.connect(triage1, false)
	return w
}

// person signs in now.
func (w *world) person(issuer, subject string, groups ...string) grant.Caller {
	w.t.Helper()
	return grant.Caller{
		Person: &grant.Person{Issuer: issuer, ClientID: "exeat", Subject: subject, Name: subject, Groups: groups, AuthTime: w.store.Now()},
		Rights: w.store.Index().Catalog().Rights(issuer, "exeat", groups), Name: policy.PersonName(issuer, subject),
	}
}

func (w *world) lead(subject string) grant.Caller {
	w.t.Helper()
	return w.person(login, subject, "leads")
}

var closeTicket = grant.Request{Capability: "close-ticket", Params: map[string]string{"ticket": "OPS-42"}}

// asks asks for grants that people must approve, and gives the request.
func (w *world) asks(c grant.Caller, t policy.Task, rs ...grant.Request) (grant.Approval, []policy.Grant) {
	w.t.Helper()
	for i := range rs {
		rs[i].Task = t.ID
	}
	list, err := w.RequestAll(w.ctx, c, rs, 0)
	w.must(err)
	var gs []policy.Grant
	for _, st := range list {
		if st.Grant.State != policy.Pending || st.Waiting != grant.WaitApproval || st.Ready || st.Grant.Approval != list[0].Grant.Approval {
			w.t.Fatalf("not pending: %+v", st)
		}
		gs = append(gs, st.Grant)
	}
	return w.approval(gs[0].Approval), gs
}

// approval reads a request as the operator.
func (w *world) approval(id policy.ApprovalID) grant.Approval {
	w.t.Helper()
	a, err := w.Approval(w.ctx, operator, id)
	w.must(err)
	return a
}

// code is that of a refused vote; empty when the vote was taken.
func (w *world) code(c grant.Caller, id policy.ApprovalID, b grant.Ballot) string {
	w.t.Helper()
	_, err := w.Approve(w.ctx, c, id, b)
	var vote *policy.VoteError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &vote):
		return vote.Code
	case errors.Is(err, grant.ErrNotFound):
		return "not_found"
	}
	w.t.Fatal(err)
	return ""
}

// votes approves what is there now.
func (w *world) votes(c grant.Caller, id policy.ApprovalID) {
	w.t.Helper()
	if code := w.code(c, id, grant.Ballot{Digest: w.approval(id).Digest()}); code != "" {
		w.t.Fatalf("%s: %s", c.Name, code)
	}
}

func TestTwoPeopleApproveAndTheVeryNextCallSucceeds(t *testing.T) {
	t.Parallel()
	w := newApprovals(t)
	task, c := w.task(triage1, time.Hour)
	a, gs := w.asks(c, task, closeTicket)
	if !a.Pending() || len(a.Adds[0]) != 1 || a.Adds[0][0] != "POST https://tickets.example.org/v1/tickets/OPS-42/transitions with any body" ||
		len(a.Why) != 1 || a.Expires.Sub(a.Requested) != 30*time.Minute || a.RequestedBy != string(triage1) {
		t.Errorf("got %+v", a)
	}
	call := func() policy.Decision {
		raw, err := policy.ParseCall(policy.RawCall{
			Method: "POST", Scheme: "https", Authority: "tickets.example.org", Target: "/v1/tickets/OPS-42/transitions", At: w.store.Now(),
		})
		w.must(err)
		x := w.store.Index()
		agent, _ := x.Catalog().Agent("triage")
		return policy.Decide(x.Catalog(), agent, x.Task(task.ID), &raw, w.store.Now())
	}
	d := call()
	if d.Reason != policy.ApprovalPending || len(d.Next) != 1 || d.Next[0].Approval != string(a.ID) ||
		!strings.Contains(d.Next[0].Address, string(gs[0].ID)) {
		t.Errorf("meanwhile: %+v", d)
	}
	waited := make(chan grant.Status, 1)
	go func() {
		st, _ := w.Get(w.ctx, c, gs[0].ID, long)
		waited <- st
	}()
	w.votes(w.lead("ann"), a.ID)
	if d := call(); d.Reason != policy.ApprovalPending {
		t.Errorf("after one: %v", d.Reason)
	}
	w.ahead.Store(int64(time.Minute)) // its time runs from its activation
	w.votes(w.person(login, "bob", "chiefs"), a.ID)
	st := <-waited
	if !st.Ready || st.Grant.Until.Sub(w.store.Now()) < 4*time.Minute+50*time.Second || st.Grant.Until.Sub(w.store.Now()) > 5*time.Minute {
		t.Errorf("got %+v", st)
	}
	if d := call(); d.Reason != policy.Allowed {
		t.Errorf("after two: %v", d.Reason)
	}
	if a := w.approval(a.ID); a.State != "approved" || a.By != "person/"+login+"/ann, person/"+login+"/bob" {
		t.Errorf("got %+v", a)
	}
}

// Each row is a vote that must not count.
func TestWhoseVoteDoesNotCount(t *testing.T) {
	t.Parallel()
	w := newApprovals(t)
	task, c := w.task(triage1, time.Hour)
	a, gs := w.asks(c, task, closeTicket)
	right := grant.Ballot{Digest: a.Digest()}
	w.votes(w.lead("ann"), a.ID)
	old, never := w.lead("bob"), w.lead("bob")
	old.Person.AuthTime = w.store.Now().Add(-5*time.Minute - time.Second)
	never.Person.AuthTime = time.Time{}
	requester, noRights := w.lead("bob"), w.lead("bob")
	requester.Rights, noRights.Rights = policy.Rights{}, policy.Rights{}
	fake := w.lead("bob")
	fake.Person.Local = true
	local := operator
	local.Person = &grant.Person{Issuer: "local", Subject: "uid/0", AuthTime: w.store.Now()}
	for name, v := range map[string]struct {
		caller grant.Caller
		ballot grant.Ballot
		code   string
	}{
		"the same person twice":                     {w.lead("ann"), right, policy.CodeVotedBefore},
		"the same person by another group":          {w.person(login, "ann", "chiefs"), right, policy.CodeVotedBefore},
		"an owner, though a lead":                   {w.person(login, "bob", "leads", "support"), right, policy.CodeOwnAgent},
		"one who may approve, of none of its group": {w.person(login, "bob", "anybody"), right, policy.CodeNotApprover},
		"one who may only view":                     {w.person(login, "bob", "watchers"), right, policy.CodeNotApprover},
		"one who may not even view":                 {w.person(login, "bob", "strangers"), right, "not_found"},
		"one whom no Access knows":                  {noRights, right, "not_found"},
		"authenticated too long ago":                {old, right, policy.CodeStepUp},
		"authenticated nobody knows when":           {never, right, policy.CodeStepUp},
		"the operator":                              {operator, right, policy.CodeNotApprover},
		"the operator as somebody local":            {local, right, policy.CodeNotApprover},
		"somebody of an issuer, as local":           {fake, right, policy.CodeNotApprover},
		"nobody":                                    {grant.Caller{}, right, "not_found"},
		"the agent itself":                          {c, right, "not_found"},
		"another digest":                            {w.lead("bob"), grant.Ballot{Digest: strings.Repeat("0", 64)}, policy.CodeDigest},
		"no digest":                                 {w.lead("bob"), grant.Ballot{}, policy.CodeDigest},
		"the digest of the capability alone":        {w.lead("bob"), grant.Ballot{Digest: gs[0].Digest}, policy.CodeDigest},
		"more time than was asked for":              {w.lead("bob"), grant.Ballot{Digest: a.Digest(), TTL: 6 * time.Minute}, policy.CodeNotNarrower},
		"negative time":                             {w.lead("bob"), grant.Ballot{Digest: a.Digest(), TTL: -time.Minute}, policy.CodeNotNarrower},
	} {
		if code := w.code(v.caller, a.ID, v.ballot); code != v.code {
			t.Errorf("%s: %q, want %q", name, code, v.code)
		}
	}
	now := w.approval(a.ID)
	if !now.Pending() || len(now.Votes) != 1 || find(w.store.Index().Task(task.ID), gs[0].ID).Grant.State != policy.Pending {
		t.Fatalf("a vote that must not count did: %+v", now)
	}
	w.votes(w.lead("bob"), a.ID)
	if code := w.code(w.lead("eve"), a.ID, right); code != policy.CodeDecided {
		t.Errorf("a vote after the last: %q", code)
	}
}

func TestVotesOfTwoIssuersDoNotAddUp(t *testing.T) {
	t.Parallel()
	w := newApprovals(t)
	task, c := w.task(triage1, time.Hour)
	a, _ := w.asks(c, task, closeTicket)
	local := operator
	local.Person = &grant.Person{Issuer: "local", Subject: "uid/0", Local: true, AuthTime: w.store.Now()}
	for _, c := range []grant.Caller{w.lead("ann"), w.person(other, "ann", "leads"), local} {
		w.votes(c, a.ID)
	}
	if now := w.approval(a.ID); !now.Pending() || now.Given() != 1 {
		t.Errorf("three issuers made %d, %s", now.Given(), now.State)
	}
	if code := w.code(local, a.ID, grant.Ballot{Digest: a.Digest()}); code != policy.CodeVotedBefore {
		t.Errorf("local twice: %q", code)
	}
	w.votes(w.person(other, "bob", "leads"), a.ID)
	if now := w.approval(a.ID); now.State != "approved" {
		t.Errorf("two of one issuer: %s", now.State)
	}
}

// Who started the task may not approve, though they are in no owner group.
func TestWhoStartedTheTaskMayNotApprove(t *testing.T) {
	t.Parallel()
	w := newApprovals(t)
	starter := w.as(triage1, policy.Secret{})
	starter.Name = policy.PersonName(login, "ann")
	task, err := w.StartTask(w.ctx, starter, grant.TaskRequest{Timeout: time.Hour})
	w.must(err)
	requester := w.as(triage1, task.Credential)
	requester.Name = policy.PersonName(login, "bob")
	a, _ := w.asks(requester, task, closeTicket)
	for _, who := range []string{"ann", "bob"} {
		if code := w.code(w.lead(who), a.ID, grant.Ballot{Digest: a.Digest()}); code != policy.CodeOwnRequest {
			t.Errorf("%s: %q", who, code)
		}
	}
	w.votes(w.person(other, "ann", "leads"), a.ID) // someone else of that name
}

func TestApproversNarrow(t *testing.T) {
	t.Parallel()
	w := newApprovals(t)
	task, c := w.task(triage1, time.Hour)
	long := closeTicket
	long.TTL = 15 * time.Minute
	a, gs := w.asks(c, task, long)
	for who, ttl := range map[string]time.Duration{"ann": 10 * time.Minute, "bob": 2 * time.Minute} {
		if code := w.code(w.lead(who), a.ID, grant.Ballot{Digest: a.Digest(), TTL: ttl}); code != "" {
			t.Fatal(code)
		}
	}
	v := w.until(task.ID, func(v *policy.TaskView) bool { return find(v, gs[0].ID).Grant.State == policy.Active })
	if left := find(v, gs[0].ID).Grant.Until.Sub(w.store.Now()); left > 2*time.Minute || left < time.Minute+50*time.Second {
		t.Errorf("it lasts %v", left)
	}
}

// How a request ends without a yes.
func TestARequestThatIsNotApproved(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		how   func(w *world, c grant.Caller, t policy.Task, a grant.Approval, g policy.Grant)
		state string
		end   policy.EndReason
	}{
		"refused by an approver": {func(w *world, _ grant.Caller, _ policy.Task, a grant.Approval, _ policy.Grant) {
			_, err := w.Refuse(w.ctx, w.lead("bob"), a.ID, grant.Ballot{Comment: "not today"})
			w.must(err)
		}, "refused", policy.EndRefused},
		"refused by one who authenticated long ago": {func(w *world, _ grant.Caller, _ policy.Task, a grant.Approval, _ policy.Grant) {
			bob := w.lead("bob")
			bob.Person.AuthTime = time.Time{}
			_, err := w.Refuse(w.ctx, bob, a.ID, grant.Ballot{Comment: "not today", Digest: a.Digest()})
			w.must(err)
		}, "refused", policy.EndRefused},
		"refused by the operator": {func(w *world, _ grant.Caller, _ policy.Task, a grant.Approval, _ policy.Grant) {
			_, err := w.Refuse(w.ctx, operator, a.ID, grant.Ballot{Comment: "no"})
			w.must(err)
		}, "refused", policy.EndRefused},
		"withdrawn by the agent": {func(w *world, c grant.Caller, _ policy.Task, _ grant.Approval, g policy.Grant) {
			st, e, err := w.End(w.ctx, c, g.ID)
			w.must(err)
			if st.Grant.End != policy.EndWithdrawn || e.Enforced.IsZero() {
				w.t.Errorf("got %+v, %+v", st, e)
			}
		}, "withdrawn", policy.EndWithdrawn},
		"revoked": {func(w *world, _ grant.Caller, _ policy.Task, _ grant.Approval, g policy.Grant) {
			_, _, err := w.Revoke(w.ctx, operator, g.ID, grant.EnforceWait)
			w.must(err)
		}, "revoked", policy.EndRevoked},
		"expired": {func(w *world, _ grant.Caller, _ policy.Task, _ grant.Approval, _ policy.Grant) {
			w.ahead.Store(int64(31 * time.Minute))
			w.task(triage1, time.Minute) // whatever changes wakes the sweeper, whose timer knew of no jump
		}, "request_expired", policy.EndRequestExpired},
		"its task completed": {func(w *world, c grant.Caller, t policy.Task, _ grant.Approval, _ policy.Grant) {
			_, err := w.EndTask(w.ctx, c, t.ID, policy.EndCompleted)
			w.must(err)
		}, "completed", policy.EndCompleted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newApprovals(t)
			task, agent := w.task(triage1, time.Hour)
			a, gs := w.asks(agent, task, closeTicket)
			w.votes(w.lead("ann"), a.ID)
			c.how(w, agent, task, a, gs[0])
			w.until(task.ID, func(v *policy.TaskView) bool { return find(v, gs[0].ID).Grant.End == c.end })
			if now := w.approval(a.ID); now.State != c.state {
				t.Errorf("it is %s", now.State)
			}
			if code := w.code(w.lead("bob"), a.ID, grant.Ballot{Digest: a.Digest()}); code != policy.CodeDecided {
				t.Errorf("a vote after it: %q", code)
			}
			if st, err := w.Get(w.ctx, agent, gs[0].ID, 0); err != nil || st.Ready || st.Grant.State != policy.Ended {
				t.Errorf("got %+v, %v", st, err)
			}
		})
	}
}

func TestWhoMayNotRefuse(t *testing.T) {
	t.Parallel()
	w := newApprovals(t)
	task, c := w.task(triage1, time.Hour)
	a, _ := w.asks(c, task, closeTicket)
	for name, caller := range map[string]grant.Caller{
		"one who may only view": w.person(login, "bob", "watchers"), "an owner": w.person(login, "bob", "leads", "support"),
		"the agent": c, "nobody": {},
	} {
		if _, err := w.Refuse(w.ctx, caller, a.ID, grant.Ballot{Comment: "no"}); err == nil {
			t.Errorf("%s refused", name)
		}
	}
	for name, b := range map[string]grant.Ballot{
		"without a reason": {}, "with another digest": {Comment: "no", Digest: "0"}, "with a terminal's words": {Comment: "\x1b[2J"},
	} {
		if _, err := w.Refuse(w.ctx, w.lead("bob"), a.ID, b); err == nil {
			t.Errorf("refused %s", name)
		}
	}
	if now := w.approval(a.ID); !now.Pending() {
		t.Errorf("it is %s", now.State)
	}
}

// What another catalog makes of a request that one person has approved.
func TestTheCatalogChangesWhileARequestWaits(t *testing.T) {
	t.Parallel()
	change := func(from, to string) string {
		text := strings.Replace(approvalsJSON, from, to, 1)
		if text == approvalsJSON {
			panic("nothing changed")
		}
		return text
	}
	for name, c := range map[string]struct {
		catalog string
		votes   int    // that are left
		state   string // empty: pending
	}{
		"something else changed": {change(`"path": "/v1/labels"`, `"path": "/v1/tags"`), 1, ""},
		"another call":           {change(`/transitions"`, `/everything"`), 0, ""},
		"a wider body":           {change(`"method": "POST"`, `"method": "DELETE"`), 0, ""},
		"another scope":          {change(`ticket:write`, `ticket:admin`), 0, ""},
		"another host":           {change(`"hosts": ["tickets.example.org"]`, `"hosts": ["evil.example.org"]`), 0, ""},
		"one approver is enough": {change(`"count": 2`, `"count": 1`), 0, ""},
		"another group decides":  {change(`"groups": ["leads", "chiefs"], "expiresAfter"`, `"groups": ["chiefs"], "expiresAfter"`), 0, ""},
		"another owner":          {change(`"owner": {"groups": ["support"]`, `"owner": {"groups": ["support", "leads"]`), 0, "context_changed"},
		"nobody is asked":        {change(`"count": 2, "groups": ["leads", "chiefs"], "expiresAfter": "30m", "stepUp": {"maxAge": "5m"}}}}`, `"groups": ["leads", "chiefs"], "stepUp": {"maxAge": "5m"}}}}`), 0, ""},
		"not asked for at all": {change(`,
    "approval": {"count": 2, "groups": ["leads", "chiefs"], "expiresAfter": "30m", "stepUp": {"maxAge": "5m"}}}}`, `}}`), 0, "policy_changed"},
		"the agent may not any more": {change(`"capabilities": [{"name": "close-ticket"}, `, `"capabilities": [`), 0, "policy_changed"},
		"the pattern took it away":   {change(`"[A-Z]+-[0-9]+"`, `"[A-Z]+-9[0-9]+"`), 0, "policy_changed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "not asked for at all" {
				c.catalog = strings.Replace(c.catalog, `"risk": "high", `, ``, 1)
			}
			w := newApprovals(t)
			task, agent := w.task(triage1, time.Hour)
			a, gs := w.asks(agent, task, closeTicket)
			w.votes(w.lead("ann"), a.ID)
			w.publish(c.catalog)
			// Whether the sweeper was first or the vote is, the outcome is one.
			_, err := w.Approve(w.ctx, w.person(login, "bob", "chiefs"), a.ID, grant.Ballot{Digest: a.Digest()})
			now := w.approval(a.ID)
			switch {
			case c.votes > 0:
				if err != nil || now.State != "approved" {
					t.Errorf("votes were lost: %v, %s", err, now.State)
				}
				w.until(task.ID, func(v *policy.TaskView) bool { h := find(v, gs[0].ID); return h.Credential != nil && h.Resolved != nil })
			case err == nil:
				t.Errorf("a yes to the old meaning counted: %+v", now)
			case c.state != "":
				w.until(task.ID, func(v *policy.TaskView) bool { return find(v, gs[0].ID).Grant.End == policy.EndReason(c.state) })
				if now := w.approval(a.ID); now.State != c.state {
					t.Errorf("it is %s", now.State)
				}
			default:
				if !now.Pending() || len(now.Votes) != 0 || now.Round != 2 || now.Digest() == a.Digest() {
					t.Errorf("it did not start over: %+v", now)
				}
			}
		})
	}
}

// A vote counts while the one who gave it may still approve.
func TestAVoteGoesWithTheRightToGiveIt(t *testing.T) {
	t.Parallel()
	w := newApprovals(t)
	task, c := w.task(triage1, time.Hour)
	a, _ := w.asks(c, task, closeTicket)
	w.votes(w.lead("ann"), a.ID)
	w.publish(strings.Replace(approvalsJSON, `"groups": ["leads", "chiefs"], "verbs"`, `"groups": ["chiefs"], "verbs"`, 1))
	w.votes(w.person(login, "bob", "chiefs"), a.ID)
	if now := w.approval(a.ID); !now.Pending() || now.Given() != 1 {
		t.Errorf("the vote of one who may no longer approve counted: %+v", now.Votes)
	}
	w.votes(w.person(login, "eve", "chiefs"), a.ID)
	if now := w.approval(a.ID); now.State != "approved" {
		t.Errorf("it is %s", now.State)
	}
}

func TestApprovalsSurviveARestart(t *testing.T) {
	t.Parallel()
	w := newApprovals(t)
	task, c := w.task(triage1, time.Hour)
	a, gs := w.asks(c, task, closeTicket)
	w.votes(w.lead("ann"), a.ID)
	w.reopen()
	w.until(task.ID, func(v *policy.TaskView) bool { return find(v, gs[0].ID) != nil })
	w.cars.connect(triage1, false)
	if now := w.approval(a.ID); len(now.Votes) != 1 || now.Digest() != a.Digest() {
		t.Fatalf("got %+v", now)
	}
	if code := w.code(w.lead("ann"), a.ID, grant.Ballot{Digest: a.Digest()}); code != policy.CodeVotedBefore {
		t.Errorf("the same person after a restart: %q", code)
	}
	w.votes(w.lead("bob"), a.ID)
	w.reopen()
	w.until(task.ID, func(v *policy.TaskView) bool {
		h := find(v, gs[0].ID)
		return h != nil && h.Grant.State == policy.Active
	})
	if now := w.approval(a.ID); now.State != "approved" {
		t.Errorf("it is %s", now.State)
	}
}

func TestSeveralGrantsAreApprovedAsOne(t *testing.T) {
	t.Parallel()
	w := newApprovals(t)
	task, c := w.task(triage1, time.Hour)
	all := []grant.Request{closeTicket, {Capability: "label-ticket"}, {Capability: "browse"}}
	a, gs := w.asks(c, task, all...)
	if len(a.Items) != 3 || a.Rule.Count != 2 || len(a.Rule.Groups) != 2 || a.Rule.StepUp == nil || a.Rule.StepUp.MaxAge != 5*time.Minute {
		t.Fatalf("got %+v", a.Rule)
	}
	if code := w.code(w.person(login, "bob", "chiefs"), a.ID, grant.Ballot{Digest: a.Digest()}); code != policy.CodeNotApprover {
		t.Errorf("one of only one of the groups: %q", code)
	}
	w.votes(w.lead("ann"), a.ID)
	w.votes(w.lead("bob"), a.ID)
	v := w.until(task.ID, func(v *policy.TaskView) bool { return find(v, gs[0].ID).Grant.State == policy.Active })
	for _, g := range gs { // one transaction: no view has some of them
		if find(v, g.ID).Grant.State != policy.Active {
			t.Errorf("%s is %s", g.Capability, find(v, g.ID).Grant.State)
		}
	}
	second, gs := w.asks(c, task, all...)
	if len(second.Adds[0])+len(second.Adds[1])+len(second.Adds[2]) != 0 || len(second.Holds) != 3 {
		t.Errorf("it adds %v to %d", second.Adds, len(second.Holds))
	}
	_, _, err := w.Revoke(w.ctx, operator, gs[2].ID, grant.EnforceWait)
	w.must(err)
	w.until(task.ID, func(v *policy.TaskView) bool {
		return !slices.ContainsFunc(gs, func(g policy.Grant) bool { return find(v, g.ID).Grant.End != policy.EndRevoked })
	})
}

func TestAListIsGivenWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	w := newApprovals(t)
	task, c := w.task(triage1, time.Hour)
	_, err := w.RequestAll(w.ctx, c, []grant.Request{{Task: task.ID, Capability: "browse"}, {Task: task.ID, Capability: "close-ticket"}}, 0)
	var refused *policy.RequestError
	if !errors.As(err, &refused) || refused.Field != "grants[1].params.ticket" {
		t.Errorf("got %v", err)
	}
	list, err := w.RequestAll(w.ctx, c, []grant.Request{{Task: task.ID, Capability: "browse"}, {Task: task.ID, Capability: "browse"}}, long)
	w.must(err)
	if len(list) != 2 || !list[0].Ready || !list[1].Ready || len(w.store.Index().Task(task.ID).Held) != 2 {
		t.Errorf("got %+v", list)
	}
	for name, rs := range map[string][]grant.Request{
		"none": nil, "too many": make([]grant.Request, grant.MaxTogether+1), "of two tasks": {{Task: task.ID}, {Task: "t_1"}},
	} {
		var invalid *grant.InvalidError
		if _, err := w.RequestAll(w.ctx, c, rs, 0); !errors.As(err, &invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The kill switch holds against what is being approved.
func TestAFloorEndsWhatWaits(t *testing.T) {
	t.Parallel()
	w := newApprovals(t)
	task, c := w.task(triage1, time.Hour)
	a, gs := w.asks(c, task, closeTicket)
	w.votes(w.lead("ann"), a.ID)
	_, err := w.store.RaiseFloor(w.ctx, policy.Scope{Kind: policy.ScopeCapability, Name: "close-ticket"})
	w.must(err)
	if _, err := w.Approve(w.ctx, w.lead("bob"), a.ID, grant.Ballot{Digest: a.Digest()}); err == nil {
		t.Error("approved after the floor rose")
	}
	w.until(task.ID, func(v *policy.TaskView) bool { return find(v, gs[0].ID).Grant.End == policy.EndRevoked })
}

func TestPendingRequestsAreBoundedAndListed(t *testing.T) {
	t.Parallel()
	w := newApprovals(t)
	task, c := w.task(triage1, time.Hour)
	for range grant.MaxPending {
		w.asks(c, task, closeTicket)
	}
	r := closeTicket
	r.Task = task.ID
	if _, err := w.Request(w.ctx, c, r, 0); !errors.Is(err, grant.ErrTooMany) {
		t.Errorf("one more: %v", err)
	}
	list, err := w.Approvals(w.ctx, w.lead("ann"), false)
	w.must(err)
	if len(list) != grant.MaxPending || list[0].Mine != nil {
		t.Fatalf("%d are listed", len(list))
	}
	if none, err := w.Approvals(w.ctx, w.person(login, "eve", "strangers"), true); err != nil || len(none) != 0 {
		t.Errorf("a stranger is shown %d, %v", len(none), err)
	}
	_, err = w.Refuse(w.ctx, w.lead("ann"), list[0].ID, grant.Ballot{Comment: "no"})
	w.must(err)
	open, err := w.Approvals(w.ctx, operator, false)
	w.must(err)
	all, err := w.Approvals(w.ctx, operator, true)
	w.must(err)
	if len(open) != grant.MaxPending-1 || len(all) != grant.MaxPending {
		t.Errorf("%d wait, of %d", len(open), len(all))
	}
}

// However many vote at once, each counts once and the grant becomes active once.
func TestManyVoteAtOnce(t *testing.T) {
	t.Parallel()
	w := newApprovals(t)
	task, c := w.task(triage1, time.Hour)
	a, gs := w.asks(c, task, closeTicket)
	codes := make(chan string)
	voters := []string{"ann", "ann", "bob", "bob", "eve", "eve", "kim", "kim"}
	for _, who := range voters {
		lead := w.lead(who)
		go func() {
			ctx, cancel := context.WithTimeout(w.ctx, long)
			defer cancel()
			_, err := w.Approve(ctx, lead, a.ID, grant.Ballot{Digest: a.Digest()})
			var vote *policy.VoteError
			if errors.As(err, &vote) {
				codes <- vote.Code
				return
			}
			if err != nil {
				codes <- "failed: " + err.Error()
				return
			}
			codes <- ""
		}()
	}
	taken := 0
	for range voters {
		switch code := <-codes; code {
		case "":
			taken++
		case policy.CodeVotedBefore, policy.CodeDecided:
		default:
			t.Errorf("got %q", code)
		}
	}
	now := w.approval(a.ID)
	if taken != 2 || len(now.Votes) != 2 || now.Votes[0].Subject == now.Votes[1].Subject || now.State != "approved" {
		t.Errorf("%d were taken: %+v", taken, now.Votes)
	}
	w.until(task.ID, func(v *policy.TaskView) bool { return find(v, gs[0].ID).Credential != nil })
}
