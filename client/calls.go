package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// StartTask starts a task on the sidecar that the API is reached through. The
// Task comes with its Credential; ForTask makes a Client of it.
func (c *Client) StartTask(ctx context.Context, r TaskRequest) (Task, error) {
	in := struct {
		Type    string  `json:"type,omitempty"`
		Claimed Claimed `json:"claimed,omitzero"`
		Timeout string  `json:"timeout,omitempty"`
	}{r.Type, r.Claimed, duration(r.Timeout)}
	var t Task
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/tasks", in: in, out: &t})
	return t, err
}

// Tasks lists the tasks of the sidecar, or for an operator all.
func (c *Client) Tasks(ctx context.Context) ([]Task, error) {
	var out struct {
		Tasks []Task `json:"tasks"`
	}
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/tasks", out: &out})
	return out.Tasks, err
}

// Task reads a task with its grants.
func (c *Client) Task(ctx context.Context, id string) (Task, error) {
	var t Task
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/tasks/" + url.PathEscape(id), out: &t})
	return t, err
}

// CompleteTask ends a task that did what it was for, and all its grants.
func (c *Client) CompleteTask(ctx context.Context, id string) (Receipt, error) {
	return c.endTask(ctx, id, "complete")
}

// FailTask ends a task that did not, and all its grants.
func (c *Client) FailTask(ctx context.Context, id string) (Receipt, error) {
	return c.endTask(ctx, id, "fail")
}

// RevokeTask ends any task and all its grants; for operators.
func (c *Client) RevokeTask(ctx context.Context, id string) (Receipt, error) {
	return c.endTask(ctx, id, "revoke")
}

func (c *Client) endTask(ctx context.Context, id, how string) (Receipt, error) {
	var r Receipt
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/tasks/" + url.PathEscape(id) + "/" + how, out: &r})
	return r, err
}

// Receipt reads what a task has done so far.
func (c *Client) Receipt(ctx context.Context, id string) (Receipt, error) {
	var r Receipt
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/tasks/" + url.PathEscape(id) + "/receipt", out: &r})
	return r, err
}

// RequestGrant asks for a grant and waits for it to be ready. A grant that was
// given but is not ready in time is no error: see Ready and Detail, and go on
// with GetGrant, as with one that people must approve first. A refusal is a *Problem for which Refused reports true.
func (c *Client) RequestGrant(ctx context.Context, r GrantRequest) (Grant, error) {
	in := grantForm{r.Task, r.Capability, r.Params, duration(r.TTL), r.MaxUses}
	var g Grant
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/grants", query: waiting(r.Wait), in: in, out: &g, wait: r.Wait})
	return g, err
}

// GetGrant reads a grant. With wait it returns once the grant is ready or has
// ended, and after wait (at most a minute) in any case.
func (c *Client) GetGrant(ctx context.Context, id string, wait time.Duration) (Grant, error) {
	var g Grant
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/grants/" + url.PathEscape(id), query: waiting(wait), out: &g, wait: wait})
	return g, err
}

// EndGrant ends a grant of the task that the Client acts within.
func (c *Client) EndGrant(ctx context.Context, id string) (EndedGrant, error) {
	return c.endGrant(ctx, id, "end")
}

// RevokeGrant ends any grant; for operators.
func (c *Client) RevokeGrant(ctx context.Context, id string) (EndedGrant, error) {
	return c.endGrant(ctx, id, "revoke")
}

func (c *Client) endGrant(ctx context.Context, id, how string) (EndedGrant, error) {
	var e EndedGrant
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/grants/" + url.PathEscape(id) + "/" + how, out: &e})
	return e, err
}

// Capabilities lists what the agent may ask for. An operator names the agent;
// for a sidecar it is its own, and agent is empty.
func (c *Client) Capabilities(ctx context.Context, agent string) (Capabilities, error) {
	query := url.Values{}
	if agent != "" {
		query.Set("agent", agent)
	}
	var out Capabilities
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/capabilities", query: query, out: &out})
	return out, err
}

// Sidecars lists connected sidecars: an operator all, an agent its own.
func (c *Client) Sidecars(ctx context.Context) ([]Sidecar, error) {
	var out struct {
		Sidecars []Sidecar `json:"sidecars"`
	}
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/sidecars", out: &out})
	return out.Sidecars, err
}

// Denials lists a task's denied calls after the one numbered after, at most
// the latest 256, and the number to go on from. With wait (at most a minute)
// it waits for one.
func (c *Client) Denials(ctx context.Context, task string, after int, wait time.Duration) ([]Denial, int, error) {
	query := waiting(wait)
	query.Set("after", strconv.Itoa(after))
	var out struct {
		Denials []Denial `json:"denials"`
		Next    int      `json:"next"`
	}
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/tasks/" + url.PathEscape(task) + "/denials", query: query, out: &out, wait: wait})
	return out.Denials, out.Next, err
}

// FollowDenials yields a task's denied calls as they happen, from the first
// on, until ctx ends or the API fails; the failure is yielded last.
func (c *Client) FollowDenials(ctx context.Context, task string) iter.Seq2[Denial, error] {
	return func(yield func(Denial, error) bool) {
		for after := 0; ctx.Err() == nil; {
			found, next, err := c.Denials(ctx, task, after, pollWait)
			if err != nil {
				if ctx.Err() == nil {
					yield(Denial{}, err)
				}
				return
			}
			for _, d := range found {
				if !yield(d, nil) {
					return
				}
			}
			after = next
		}
	}
}

// pollWait is how long each request of FollowDenials is held.
const pollWait = 30 * time.Second

func waiting(d time.Duration) url.Values {
	query := url.Values{}
	if d > 0 {
		query.Set("wait", d.String())
	}
	return query
}

func duration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}
