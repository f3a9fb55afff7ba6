package grant

import (
	"context"
	"errors"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/policy"
)

// Question asks what would become of a call.
type Question struct {
	// Agent is whose call it is; for an operator, everybody else has one.
	Agent string
	// Task that it is made in; all live ones of the caller's when empty.
	Task    policy.TaskID
	Method  string
	URL     string
	HasBody bool
}

// Explained is what would become of a call now. Nothing of it is recorded: it
// is no decision.
type Explained struct {
	Agent string
	Call  policy.Call
	// Tasks holds one answer for each task that was looked at. Without any it
	// is one without a task, that says what would be needed.
	Tasks []ExplainedTask
}

// ExplainedTask is the answer within one task.
type ExplainedTask struct {
	Task policy.TaskID
	policy.Explanation
}

// Explain answers what would become of a call under the catalog and the
// grants in force. Errors: ErrNotFound, ErrNoCatalog, *InvalidError.
func (s *Service) Explain(ctx context.Context, c Caller, q Question) (Explained, error) {
	now := s.store.Now()
	call, err := policy.ParseURL(q.Method, q.URL, q.HasBody, now)
	if err != nil {
		return Explained{}, invalid("url", whyMalformed(err))
	}
	views, err := s.questioned(ctx, c, q)
	if err != nil {
		return Explained{}, err
	}
	if q.Agent == "" && len(views) > 0 {
		q.Agent = views[0].Task.Agent
	}
	agent, cat, err := s.agent(c, q.Agent)
	if err != nil {
		return Explained{}, err
	}
	out := Explained{Agent: agent.Name, Call: call}
	for _, v := range views {
		e := policy.Explain(cat, agent, v, &call, now)
		e.Consult(ctx, cat, policy.CallFacts{Agent: agent, View: v, BytesOut: s.audit.Tally(v.Task.ID).Sent}, &call, now)
		out.Tasks = append(out.Tasks, ExplainedTask{v.Task.ID, e})
	}
	if len(views) == 0 {
		out.Tasks = []ExplainedTask{{"", policy.Explain(cat, agent, nil, &call, now)}}
	}
	return out, nil
}

// whyMalformed says what is wrong with the call, without "malformed call".
func whyMalformed(err error) string {
	return "a call as https://host/path?query; " + err.Error()
}

// questioned lists the tasks that a question is about.
func (s *Service) questioned(ctx context.Context, c Caller, q Question) ([]*policy.TaskView, error) {
	if q.Task == "" {
		q.Task = c.TaskFromRoom
	}
	if q.Task != "" {
		v, err := s.view(ctx, q.Task)
		if v, err = s.readable(c, v, err); err != nil {
			return nil, err
		}
		if q.Agent != "" && q.Agent != v.Task.Agent {
			return nil, ErrNotFound
		}
		return []*policy.TaskView{v}, nil
	}
	var out []*policy.TaskView
	now := s.store.Now()
	for _, t := range s.Tasks(c) {
		if v := s.index.Task(t.ID); v != nil && t.Live(now) && (c.Agent != nil || t.Agent == q.Agent) && len(out) < MaxLive {
			out = append(out, v)
		}
	}
	return out, nil
}

// Decision reads a decision from the record of this process. What is another's
// is ErrNotFound, as what does not exist.
func (s *Service) Decision(ctx context.Context, c Caller, id string) (audit.Recorded, error) {
	d, err := s.audit.Find(ctx, id)
	if errors.Is(err, audit.ErrNoDecision) {
		return audit.Recorded{}, ErrNotFound
	}
	if err != nil {
		return audit.Recorded{}, err
	}
	if c.May(policy.VerbView, d.Owner) { // also of a task that is forgotten
		return d, nil
	}
	v, err := s.view(ctx, d.Task)
	if _, err = s.readable(c, v, err); err != nil {
		return audit.Recorded{}, err
	}
	return d, nil
}

// ActsIn is the task that the caller proves to act in: that of its room, or
// the one whose credential it sends. ErrProof when there is none.
func (s *Service) ActsIn(c Caller) (policy.TaskID, error) {
	if err := asAgent(c); err != nil {
		return "", err
	}
	if c.TaskFromRoom != "" {
		return c.TaskFromRoom, nil
	}
	for _, v := range s.index.Instance(c.Instance) {
		if c.mayChange(v.Task) {
			return v.Task.ID, nil
		}
	}
	return "", ErrProof
}
