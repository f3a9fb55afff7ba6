package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Heartbeat says that a task is still worked on. It gives the task with the time
// by which the next one must come.
func (c *Client) Heartbeat(ctx context.Context, task string) (Task, error) {
	var t Task
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/tasks/" + url.PathEscape(task) + "/heartbeat", out: &t})
	return t, err
}

// PauseTask ends all grants of a task, which stays. The receipt says how far that
// is.
func (c *Client) PauseTask(ctx context.Context, task string) (Receipt, error) {
	return c.endTask(ctx, task, "pause")
}

// ResumeTask lets a paused task ask for grants again; none comes back.
func (c *Client) ResumeTask(ctx context.Context, task string) (Task, error) {
	var t Task
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/tasks/" + url.PathEscape(task) + "/resume", out: &t})
	return t, err
}

// RenewGrant asks for a successor of a grant, for ttl or as long as the
// capability says, and waits up to wait for it to be ready. The old grant goes on
// to its own end.
func (c *Client) RenewGrant(ctx context.Context, id string, ttl, wait time.Duration) (Grant, error) {
	in := struct {
		TTL string `json:"ttl,omitempty"`
	}{duration(ttl)}
	var g Grant
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/grants/" + url.PathEscape(id) + "/renew", query: waiting(wait), in: in, out: &g, wait: wait})
	return g, err
}

// Revoke ends everything in a scope, whose name is empty for ScopeAll, and waits
// up to wait (5s when zero) for the enforcement; for those who may revoke.
func (c *Client) Revoke(ctx context.Context, scope Scope, name string, wait time.Duration) (Revocation, error) {
	r := Revocation{Scope: scope, Name: name}
	switch scope {
	case ScopeGrant:
		var e EndedGrant
		err := c.revoke(ctx, "/v1/grants/"+url.PathEscape(name)+"/revoke", wait, &e)
		r.Grants, r.Instances, r.Ending = 1, 1, e.Ending
		return r, err
	case ScopeTask:
		var receipt Receipt
		err := c.revoke(ctx, "/v1/tasks/"+url.PathEscape(name)+"/revoke", wait, &receipt)
		r.Instances, r.Ending = 1, receipt.Ending
		for _, g := range receipt.Grants {
			if g.EndedAt.Equal(receipt.Task.EndedAt) {
				r.Grants++
			}
		}
		return r, err
	case ScopeAll:
		err := c.revoke(ctx, "/v1/revoke-all", wait, &r)
		return r, err
	}
	plural := map[Scope]string{ScopeAgent: "agents", ScopeOwner: "owners", ScopeCapability: "capabilities"}[scope]
	err := c.revoke(ctx, "/v1/"+plural+"/"+url.PathEscape(name)+"/revoke", wait, &r)
	return r, err
}

func (c *Client) revoke(ctx context.Context, path string, wait time.Duration, out any) error {
	return c.do(ctx, call{method: http.MethodPost, path: path, query: waiting(wait), out: out, wait: wait})
}

// GetEnding reads how far an ending is that a reply told the revision of, and
// waits up to wait (at most a minute) until it is enforced.
func (c *Client) GetEnding(ctx context.Context, scope Scope, name string, revision int64, wait time.Duration) (Ending, error) {
	query := waiting(wait)
	query.Set("scope", string(scope))
	query.Set("revision", strconv.FormatInt(revision, 10))
	if name != "" {
		query.Set("name", name)
	}
	var e Ending
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/endings", query: query, out: &e, wait: wait})
	return e, err
}

// GrantFilter says which grants are listed: one agent's, one task's, and those
// that ended too.
type GrantFilter struct {
	Agent, Task string
	Ended       bool
}

// Grants lists grants, the latest first; more says whether there are others than
// the thousand that are listed.
func (c *Client) Grants(ctx context.Context, f GrantFilter) (list []Grant, more bool, err error) {
	query := url.Values{}
	if f.Agent != "" {
		query.Set("agent", f.Agent)
	}
	if f.Task != "" {
		query.Set("task", f.Task)
	}
	if f.Ended {
		query.Set("ended", "true")
	}
	var out struct {
		Grants []Grant `json:"grants"`
		More   bool    `json:"more"`
	}
	err = c.do(ctx, call{method: http.MethodGet, path: "/v1/grants", query: query, out: &out})
	return out.Grants, out.More, err
}

// Agents lists agents with their states.
func (c *Client) Agents(ctx context.Context) ([]Agent, error) {
	var out struct {
		Agents []Agent `json:"agents"`
	}
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/agents", out: &out})
	return out.Agents, err
}

// SuspendAgent suspends an agent with all its grants, for a reason that the agent
// is told, and waits up to wait (5s when zero) for the enforcement.
func (c *Client) SuspendAgent(ctx context.Context, name, reason string, wait time.Duration) (Agent, Revocation, error) {
	in := struct {
		Reason string `json:"reason,omitempty"`
	}{reason}
	var out struct {
		Agent      Agent      `json:"agent"`
		Revocation Revocation `json:"revocation"`
	}
	err := c.do(ctx, call{
		method: http.MethodPost, path: "/v1/agents/" + url.PathEscape(name) + "/suspend", query: waiting(wait), in: in, out: &out, wait: wait,
	})
	return out.Agent, out.Revocation, err
}

// ResumeAgent lets a suspended agent start tasks again; nothing comes back.
func (c *Client) ResumeAgent(ctx context.Context, name string) (Agent, error) {
	var a Agent
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/agents/" + url.PathEscape(name) + "/resume", out: &a})
	return a, err
}
