package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/server/servertest"
)

// long is for what must happen; nothing waits for it unless it fails.
const long = 20 * time.Second

// through gives a client that speaks as that sidecar.
func through(t *testing.T, api *servertest.API, sidecar string) *client.Client {
	t.Helper()
	c, err := client.New(api.URL, client.WithHTTPClient(api.As(sidecar)))
	api.Must(err)
	return c
}

func TestATaskFromItsStartToItsReceipt(t *testing.T) {
	t.Parallel()
	api, ctx := servertest.Start(t), t.Context()
	c := through(t, api, servertest.Triage1)
	task, err := c.StartTask(ctx, client.TaskRequest{
		Type: "triage", Timeout: 10 * time.Minute,
		Claimed: client.Claimed{Purpose: "look", Context: map[string]string{"run": "7"}},
	})
	api.Must(err)
	if task.State != "active" || task.Until.Sub(task.StartedAt) != 10*time.Minute || task.Claimed.Context["run"] != "7" {
		t.Fatalf("got %+v", task)
	}
	c = c.ForTask(task.Credential)
	g, err := c.RequestGrant(ctx, client.GrantRequest{
		Task: task.ID, Capability: "read-ticket", Params: map[string]string{"ticket": "OPS-42"}, TTL: time.Minute, Wait: long,
	})
	api.Must(err)
	if lasts := g.Until.Sub(g.RequestedAt); !g.Ready || lasts > time.Minute || lasts <= 59*time.Second {
		t.Fatalf("got %+v", g)
	}
	again, err := c.GetGrant(ctx, g.ID, long)
	api.Must(err)
	whole, err := c.Task(ctx, task.ID)
	api.Must(err)
	if again.ID != g.ID || len(whole.Grants) != 1 || !whole.Credential.IsZero() {
		t.Errorf("got %+v and %+v", again, whole)
	}
	ended, err := c.EndGrant(ctx, g.ID)
	api.Must(err)
	if ended.Grant.EndReason != "completed" || !ended.Ending.Enforced {
		t.Errorf("got %+v", ended)
	}
	r, err := c.CompleteTask(ctx, task.ID)
	api.Must(err)
	if r.Task.EndReason != "completed" || !r.Ending.Enforced || len(r.Grants) != 1 || r.Calls.Total() != 0 {
		t.Errorf("got %+v", r)
	}
	same, err := c.Receipt(ctx, task.ID)
	api.Must(err)
	if same.Task.EndedAt != r.Task.EndedAt {
		t.Errorf("got %+v", same)
	}
}

func TestProblemsSayWhatTheyAre(t *testing.T) {
	t.Parallel()
	api, ctx := servertest.Start(t), t.Context()
	c := through(t, api, servertest.Triage1)
	task, err := c.StartTask(ctx, client.TaskRequest{})
	api.Must(err)
	_, err = c.CompleteTask(ctx, task.ID)
	if !client.IsCode(err, "task_credential_required") {
		t.Errorf("without the credential: %v", err)
	}
	bound := c.ForTask(task.Credential)
	_, err = bound.RequestGrant(ctx, client.GrantRequest{Task: task.ID, Capability: "other"})
	var p *client.Problem
	if !errors.As(err, &p) || !p.Refused() || p.Code != "not_eligible" || p.Status != 403 || len(p.Errors) != 1 || p.Errors[0].Field != "capability" {
		t.Errorf("a refusal: %+v", p)
	}
	if _, err = c.RevokeTask(ctx, task.ID); !client.IsCode(err, "operator_required") {
		t.Errorf("a revocation: %v", err)
	}
	if _, err = through(t, api, servertest.Writer).Task(ctx, task.ID); !client.IsCode(err, "not_found") {
		t.Errorf("someone else's: %v", err)
	}
	if _, err = bound.GetGrant(ctx, "../tasks", 0); !client.IsCode(err, "no_such_route") {
		t.Errorf("an ID that is a path: %v", err)
	}
}

func TestTheOperatorsClient(t *testing.T) {
	t.Parallel()
	api, ctx := servertest.Start(t), t.Context()
	c := through(t, api, servertest.Triage1)
	task, err := c.StartTask(ctx, client.TaskRequest{})
	api.Must(err)
	g, err := c.ForTask(task.Credential).RequestGrant(ctx, client.GrantRequest{
		Task: task.ID, Capability: "read-ticket", Params: map[string]string{"ticket": "OPS-1"}, Wait: long,
	})
	api.Must(err)
	op, err := client.NewLocal(api.Socket)
	api.Must(err)
	defer op.Close()
	tasks, err := op.Tasks(ctx)
	api.Must(err)
	cars, err := op.Sidecars(ctx)
	api.Must(err)
	caps, err := op.Capabilities(ctx, "triage")
	api.Must(err)
	if len(tasks) != 1 || len(cars) != 1 || cars[0].Agent != "triage" || len(caps.Capabilities) != 1 || caps.Capabilities[0].MaxTTL.String() != "15m0s" {
		t.Errorf("got %+v, %+v, %+v", tasks, cars, caps)
	}
	ended, err := op.RevokeGrant(ctx, g.ID)
	api.Must(err)
	r, err := op.RevokeTask(ctx, task.ID)
	api.Must(err)
	if ended.Grant.EndReason != "revoked" || r.Task.EndReason != "revoked" {
		t.Errorf("got %+v, %+v", ended, r)
	}
}

func TestDenialsAreFollowedAsTheyHappen(t *testing.T) {
	t.Parallel()
	api := servertest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := through(t, api, servertest.Triage1)
	task, err := c.StartTask(ctx, client.TaskRequest{})
	api.Must(err)
	deny := func(reason policy.Reason) {
		api.Must(api.Audit.Decision(ctx, audit.Decision{
			ID: audit.NewDecisionID(time.Now()), Time: time.Now(), Reason: reason,
			Subject: audit.Subject{Agent: "triage", Task: policy.TaskID(task.ID), Destination: "tickets"},
			Call:    audit.Call{Method: "GET", Scheme: "https", Host: "tickets.example.org", Port: 443, Path: "/v1/tickets/OPS-1"},
			Next:    []policy.Next{{Action: "request_grant", Capability: "read-ticket", Params: map[string]string{"ticket": "OPS-1"}}},
		}))
	}
	deny(policy.NoGrant)
	var got []client.Denial
	for d, err := range c.FollowDenials(ctx, task.ID) {
		if err != nil {
			break
		}
		got = append(got, d)
		switch len(got) {
		case 1:
			deny(policy.GrantExpired) // while it is being followed
		case 2:
			cancel()
		}
	}
	if len(got) != 2 || got[0].N != 1 || got[0].Reason != "no_grant" || got[0].Retry != "request_grant" ||
		got[0].URL != "https://tickets.example.org/v1/tickets/OPS-1" || got[0].Next[0].Capability != "read-ticket" || got[1].Reason != "grant_expired" {
		t.Errorf("got %+v", got)
	}
	r, err := c.Receipt(t.Context(), task.ID)
	api.Must(err)
	if r.Calls.Denied["no_grant"] != 1 || r.Calls.Total() != 2 {
		t.Errorf("got %+v", r.Calls)
	}
}

func TestAnAnswerThatIsNotExeatsIsNotBelieved(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   string
		code   string
	}{
		"a proxy's page":          {502, "<html>secret page</html>", "unexpected_answer"},
		"the sidecar's own words": {503, `{"reason":"state_stale","detail":"try again"}`, "state_stale"},
		"a redirect":              {302, "", "unexpected_answer"},
		"a success that is none":  {200, "<html>", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/elsewhere") {
					t.Error("the redirect was followed")
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
			}))
			defer srv.Close()
			api, err := client.New(srv.URL, client.WithTaskCredential(client.NewSecret("s")))
			if err != nil {
				t.Fatal(err)
			}
			defer api.Close()
			_, err = api.Sidecars(t.Context())
			if err == nil || c.code != "" && !client.IsCode(err, c.code) || strings.Contains(err.Error(), "html") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestOnlyAnAPIsURLIsTaken(t *testing.T) {
	t.Parallel()
	for _, u := range []string{"", "127.0.0.1:1", "ftp://x", "http://", "http://u:p@x", "http://x/v1", "http://x?y", "http://x#y"} {
		if _, err := client.New(u); err == nil {
			t.Errorf("%q was taken", u)
		}
	}
	if _, err := client.NewLocal(""); err == nil {
		t.Error("no socket was taken")
	}
}

func TestASecretIsNotShown(t *testing.T) {
	t.Parallel()
	task := client.Task{Credential: client.NewSecret("hidden")}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, task); strings.Contains(text, "hidden") {
			t.Errorf("%s shows %s", verb, text)
		}
	}
	if b, err := json.Marshal(task); err == nil {
		t.Errorf("marshalled as %s", b)
	}
}
