package server_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/exeat-dev/exeat/server"
	"github.com/exeat-dev/exeat/server/servertest"
)

// within adds what a room's configuration adds.
type within struct {
	next   http.RoundTripper
	header string
	value  string
}

func (w within) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(w.header, w.value)
	return w.next.RoundTrip(r)
}

// model is the official client at the API's /mcp.
func (w world) model(c *http.Client, header, value string) *mcp.ClientSession {
	w.T.Helper()
	bound := *c
	if header != "" {
		bound.Transport = within{c.Transport, header, value}
	}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "model", Version: "1"}, nil).Connect(w.T.Context(),
		&mcp.StreamableClientTransport{Endpoint: w.URL + "/mcp", HTTPClient: &bound, DisableStandaloneSSE: true, MaxRetries: -1}, nil)
	w.Must(err)
	w.T.Cleanup(func() { _ = session.Close() })
	return session
}

// use calls a tool and decodes what it gives, or fails with what it says.
func use[T any](t testing.TB, s *mcp.ClientSession, name string, args map[string]any) T {
	t.Helper()
	r, err := s.CallTool(context.Background(), &mcp.CallToolParams{Name: name, Arguments: args})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	var out T
	if r.IsError {
		t.Fatalf("%s: %s", name, textOf(r))
	}
	b, _ := json.Marshal(r.StructuredContent)
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatalf("%s: %v: %s", name, err, b)
	}
	return out
}

func textOf(r *mcp.CallToolResult) string {
	var text strings.Builder
	for _, c := range r.Content {
		if t, ok := c.(*mcp.TextContent); ok {
			text.WriteString(t.Text)
		}
	}
	return text.String()
}

func TestAModelsStory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task := w.task(w.As(servertest.Triage1))
	m := w.model(w.As(servertest.Triage1), "Exeat-Task", task.ID)

	list := use[struct{ Capabilities []server.Capability }](t, m, "list_capabilities", nil)
	if len(list.Capabilities) != 1 || list.Capabilities[0].Name != "read-ticket" {
		t.Fatalf("%+v", list)
	}
	why := use[struct{ Explained server.Explained }](t, m, "explain_denial", map[string]any{"method": "GET", "url": "https://tickets.example.org/v1/tickets/OPS-42"})
	next := why.Explained.Tasks[0].Next
	if why.Explained.Tasks[0].Reason != "no_grant" || len(next) != 1 || next[0].Capability != "read-ticket" {
		t.Fatalf("%+v", why)
	}
	got := use[struct{ Grant server.Grant }](t, m, "request_grant", map[string]any{"capability": next[0].Capability, "params": next[0].Params, "ttl": "1m"})
	if !got.Grant.Ready || got.Grant.Task != task.ID {
		t.Fatalf("%+v", got)
	}
	again := use[struct{ Grant server.Grant }](t, m, "wait_for_grant", map[string]any{"grant": got.Grant.ID})
	if !again.Grant.Ready || again.Grant.ID != got.Grant.ID {
		t.Errorf("%+v", again)
	}
	end := use[struct{ Receipt server.Receipt }](t, m, "end_task", map[string]any{"outcome": "completed"})
	if end.Receipt.Task.EndReason != "completed" || len(end.Receipt.Grants) != 1 || !end.Receipt.Ending.Enforced {
		t.Errorf("%+v", end)
	}
}

func TestToolsSayWhatTheirCallerMayAskFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for instance, want := range map[string]string{servertest.Triage1: "read-ticket", "/sidecar/writer": "other"} {
		tools, err := w.model(w.As(instance), "", "").ListTools(context.Background(), nil)
		w.Must(err)
		var names []string
		for _, tool := range tools.Tools {
			names = append(names, tool.Name)
			schema, _ := json.Marshal(tool.InputSchema)
			if tool.Name == "request_grant" && (!strings.Contains(string(schema), `"const":"`+want+`"`) || strings.Count(string(schema), `"const"`) != 1) {
				t.Errorf("%s may ask for %s", instance, schema)
			}
		}
		if strings.Join(names, " ") != "end_task explain_denial list_capabilities request_grant wait_for_grant" {
			t.Errorf("the tools are %q", names)
		}
	}
}

func TestAModelThatIsRefusedIsToldWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task := w.task(w.As(servertest.Triage1))
	inRoom := w.model(w.As(servertest.Triage1), "Exeat-Task", task.ID)
	without := w.model(w.As(servertest.Triage1), "", "")
	other := w.model(w.As(servertest.Triage2), "Exeat-Task", task.ID)
	ticket := map[string]any{"capability": "read-ticket", "params": map[string]any{"ticket": "OPS-42"}}
	for why, tt := range map[string]struct {
		m    *mcp.ClientSession
		tool string
		args map[string]any
		want string
	}{
		"without a task":            {without, "request_grant", ticket, "task_credential_required"},
		"another instance's task":   {other, "request_grant", ticket, "not_found"},
		"another's end":             {other, "end_task", map[string]any{"task": task.ID}, "not_found"},
		"a grant that is not there": {inRoom, "wait_for_grant", map[string]any{"grant": "g_01J00000000000000000000000"}, "not_found"},
		"a ttl that is none":        {inRoom, "request_grant", map[string]any{"capability": "read-ticket", "params": map[string]any{"ticket": "OPS-42"}, "ttl": "long"}, "invalid_request"},
		"a ttl that is too long":    {inRoom, "request_grant", map[string]any{"capability": "read-ticket", "params": map[string]any{"ticket": "OPS-42"}, "ttl": "24h"}, "ttl_too_long"},
		"nothing to explain":        {inRoom, "explain_denial", nil, "invalid_request"},
	} {
		t.Run(why, func(t *testing.T) {
			r, err := tt.m.CallTool(t.Context(), &mcp.CallToolParams{Name: tt.tool, Arguments: tt.args})
			if err != nil {
				t.Fatal(err)
			}
			if !r.IsError || !strings.Contains(textOf(r), `"code":"`+tt.want+`"`) {
				t.Errorf("answered %v %s", r.IsError, textOf(r))
			}
		})
	}
	// What the schema forbids is refused before anything is asked.
	r, err := inRoom.CallTool(t.Context(), &mcp.CallToolParams{Name: "request_grant", Arguments: map[string]any{"capability": "other"}})
	if err == nil && !r.IsError {
		t.Error("a capability of another agent was asked for")
	}
}

func TestMCPIsServedAsStrictlyAsTheRest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.As(servertest.Triage1)
	accept := []string{"Accept", "application/json, text/event-stream"}
	for why, r := range map[string]struct {
		client       *http.Client
		method, body string
		header       []string
		status       int
	}{
		"without an identity": {w.Nobody(), "POST", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, nil, 401},
		"from a page":         {c, "POST", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, []string{"Origin", "https://evil.example"}, 403},
		"a key twice":         {c, "POST", `{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}`, nil, 400},
		"a stream":            {c, "GET", "", nil, 405},
		"an end of a session": {c, "DELETE", "", nil, 405},
		"no JSON":             {c, "POST", "x", nil, 400},
	} {
		if a := w.do(r.client, r.method, w.URL+"/mcp", r.body, append(r.header, accept...)...); a.status != r.status {
			t.Errorf("%s: %d %s", why, a.status, a.body)
		}
	}
}
