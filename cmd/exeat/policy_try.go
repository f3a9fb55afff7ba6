package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/exeat-dev/exeat/catalog"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/policy/rego"
)

// tryOptions are the flags of `exeat policy try`.
type tryOptions struct {
	catalog, secrets, agent, capability string
	params, claims                      map[string]string
	ttl                                 time.Duration
	taskType, purpose, startedBy        string
	approvers, chain                    []string
	at, call                            string
	output                              output
	share                               float64
	grants, denials                     int
	ownerMinute, ownerHour, ownerDay    int
	touched                             []string
	explain                             bool
}

func policyTryCommand() *cobra.Command {
	var o tryOptions
	cmd := &cobra.Command{
		Use:   "try --agent AGENT --capability CAPABILITY",
		Short: "Say what a catalog's policies would decide, without asking a server",
		Long: `Says how a request would be decided under the catalog in a folder, and with
--call how a call under its grant would be. Exits 1 when it would be denied.
What a policy may ask about the past is taken from the flags, and is empty
without. --explain writes OPA's trace, which holds what the policies were asked
with, to standard error.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return tryPolicies(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.catalog, "catalog", ".", "folder of the catalog")
	f.StringVar(&o.secrets, "secrets", "", "folder under which file references lie (the catalog's own when empty)")
	f.StringVar(&o.agent, "agent", "", "name of the agent")
	f.StringVar(&o.capability, "capability", "", "name of the capability")
	f.StringToStringVar(&o.params, "param", nil, "a parameter, name=value; may be given again")
	f.DurationVar(&o.ttl, "ttl", 0, "how long the grant is asked for (the capability's own when 0)")
	f.StringVar(&o.taskType, "task-type", "task", "type of the task")
	f.StringVar(&o.purpose, "purpose", "", "what the agent claims its purpose to be")
	f.StringToStringVar(&o.claims, "claim", nil, "an entry of the claimed context, name=value")
	f.StringVar(&o.startedBy, "started-by", "", "identity that started the task (the agent's sidecar when empty)")
	f.StringSliceVar(&o.approvers, "approved-by", nil, "people who have approved the request")
	f.StringSliceVar(&o.chain, "chain", nil, "agents that delegated the request")
	f.StringVar(&o.at, "time", "", "when, in RFC 3339 (now when empty)")
	f.Float64Var(&o.share, "share24h", 0, "history.share24h")
	f.IntVar(&o.grants, "grants", 0, "history.grants")
	f.IntVar(&o.denials, "denials", 0, "history.denials")
	f.IntVar(&o.ownerMinute, "owner-requests-1m", 0, "history.owner.requests1m")
	f.IntVar(&o.ownerHour, "owner-requests-1h", 0, "history.owner.requests1h")
	f.IntVar(&o.ownerDay, "owner-requests-24h", 0, "history.owner.requests24h")
	f.StringVar(&o.call, "call", "", `a call under the grant, such as "GET https://tickets.example.org/v1/tickets/OPS-42"`)
	f.StringSliceVar(&o.touched, "touched", nil, "what the task called before --call, as destination=sensitivity")
	f.BoolVar(&o.explain, "explain", false, "write how each rule came out to standard error")
	o.output.flag(f)
	_ = cmd.MarkFlagRequired("agent")
	_ = cmd.MarkFlagRequired("capability")
	return cmd
}

// tried is what would be decided.
type tried struct {
	Allowed  bool           `json:"allowed"`
	Reason   string         `json:"reason"`
	Rule     string         `json:"rule,omitempty"`
	Messages []string       `json:"messages,omitempty"`
	TTL      string         `json:"ttl,omitempty"`
	MaxUses  int64          `json:"maxUses,omitempty"`
	Approval *triedDemand   `json:"approval,omitempty"`
	Catalog  string         `json:"catalog"`
	Call     *policy.Denial `json:"call,omitempty"` // when --call is denied
}

type triedDemand struct {
	Count  int      `json:"count"`
	Groups []string `json:"groups,omitempty"`
	MaxAge string   `json:"maxAge,omitempty"`
	ACR    string   `json:"acr,omitempty"`
}

func tryPolicies(ctx context.Context, out, trace io.Writer, o tryOptions) error {
	if err := o.output.check(); err != nil {
		return err
	}
	now, err := timeOf(o.at)
	if err != nil {
		return err
	}
	set, errs := catalog.Load(o.catalog, o.secrets)
	if len(errs) > 0 {
		fmt.Fprintln(trace, errs)
		return &exit{code: exitFailed}
	}
	cat, problems := policy.Compile(set)
	if len(problems) > 0 {
		return fmt.Errorf("%s", problems[0])
	}
	t := &trial{tryOptions: o, cat: cat, now: now, trace: trace}
	got, err := t.run(ctx)
	if err != nil {
		return err
	}
	if err := got.write(out, o.output); err != nil {
		return err
	}
	if !got.Allowed || got.Call != nil {
		return &exit{code: exitFailed}
	}
	return nil
}

func timeOf(text string) (time.Time, error) {
	if text == "" {
		return time.Now(), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, fmt.Errorf("--time %s: want RFC 3339, such as 2026-03-02T10:30:00Z", text)
	}
	return at, nil
}

// trial is one request, and perhaps a call, to be decided.
type trial struct {
	tryOptions
	cat   *policy.Catalog
	now   time.Time
	trace io.Writer
}

func (t *trial) run(ctx context.Context) (tried, error) {
	got := tried{Reason: "allowed", Catalog: t.cat.Revision()}
	agent, ok := t.cat.Agent(t.agent)
	if !ok {
		return got, fmt.Errorf("--agent %s: the catalog has no agent of this name", t.agent)
	}
	ask, err := t.ask(agent)
	var refused *policy.RequestError
	if asRefused(err, &refused) {
		got.Reason, got.Messages = refused.Code, []string{refused.Message}
		return got, nil
	}
	if err != nil {
		return got, err
	}
	issued := t.issue(ctx, ask)
	got.Allowed, got.Rule, got.Messages = issued.Allowed, issued.Rule, issued.Messages
	if !issued.Allowed {
		got.Reason = policy.CodePolicyDenied
		return got, nil
	}
	ttl := ask.TTL
	if issued.TTL > 0 {
		ttl = min(ttl, issued.TTL)
	}
	got.TTL, got.MaxUses = ttl.String(), ask.MaxUses
	if n := issued.MaxUses; n > 0 && (got.MaxUses == 0 || n < got.MaxUses) {
		got.MaxUses = n
	}
	if a := issued.Approval; a != nil {
		got.Approval = &triedDemand{Count: a.Count, Groups: a.Groups, ACR: a.ACR}
		if a.MaxAge > 0 {
			got.Approval.MaxAge = a.MaxAge.String()
		}
	}
	if t.call != "" {
		got.Call, err = t.judge(ctx, agent, ask, ttl)
	}
	return got, err
}

// ask resolves the request, as a server does before it asks a policy.
func (t *trial) ask(agent *policy.Agent) (policy.Ask, error) {
	resolved, err := t.cat.Resolve(agent.Name, t.capability, t.params)
	if err != nil {
		return policy.Ask{}, err
	}
	ttl, err := resolved.Capability.Lifetime(t.ttl)
	if err != nil {
		return policy.Ask{}, err
	}
	startedBy := t.startedBy
	if startedBy == "" {
		startedBy = agent.SidecarID
	}
	task := &policy.Task{
		ID: "t_00000000000000000000000000", Agent: agent.Name, Type: t.taskType, Purpose: t.purpose, Context: t.claims, StartedBy: startedBy,
		Life: policy.Life{State: policy.Active, Began: t.now, Activated: t.now, Until: t.now.Add(time.Hour)},
	}
	return policy.Ask{
		Agent: agent, Task: task, Resolved: resolved, TTL: ttl, MaxUses: resolved.Capability.Limits.MaxUses, Chain: t.chain, Approvers: t.approvers,
		History: rego.IssueHistory{
			Grants: t.grants, Denials: t.denials, Share: t.share,
			OwnerMinute: t.ownerMinute, OwnerHour: t.ownerHour, OwnerDay: t.ownerDay,
		},
	}, nil
}

func (t *trial) issue(ctx context.Context, ask policy.Ask) rego.Issued {
	if t.explain {
		return t.cat.Policies().ExplainIssue(ctx, ask.Input(t.now), t.trace)
	}
	return t.cat.Judge(ctx, ask, t.now)
}

// judge decides on the call under the grant that the request would give; nil
// when it would be allowed.
func (t *trial) judge(ctx context.Context, agent *policy.Agent, ask policy.Ask, ttl time.Duration) (*policy.Denial, error) {
	call, err := callOf(t.call, t.now)
	if err != nil {
		return nil, err
	}
	r := ask.Resolved
	id := policy.GrantID("g_00000000000000000000000000")
	held := &policy.Held{
		Grant: policy.Grant{
			ID: id, Task: ask.Task.ID, Agent: agent.Name, Capability: r.Capability.Name, Params: r.Params, Destination: r.Destination.Name, Digest: r.Digest,
			Life: policy.Life{State: policy.Active, Began: t.now, Activated: t.now, Until: t.now.Add(ttl)},
		},
		MadeAt: 1, Floors: []*policy.Floor{{}}, Resolved: r, Credential: &policy.SealedCredential{Grant: id},
	}
	view := &policy.TaskView{Task: *ask.Task, Held: []*policy.Held{held}}
	if view.Touches, err = touchesOf(t.touched); err != nil {
		return nil, err
	}
	d := policy.Decide(t.cat, agent, view, &call, t.now)
	if d.Allowed() {
		facts := policy.CallFacts{Agent: agent, View: view, Held: held}
		if t.explain {
			t.cat.Policies().ExplainCall(ctx, facts.Input(&call, t.now), t.trace)
		}
		if d.Policy = t.cat.JudgeCall(ctx, facts, &call, t.now); d.Policy != nil {
			d.Reason = policy.PolicyDenied
		}
	}
	if d.Allowed() {
		return nil, nil
	}
	denial := policy.NewDenial(d, "", &call, 0)
	return &denial, nil
}

// callOf reads METHOD URL, as a call without a body.
func callOf(text string, now time.Time) (policy.Call, error) {
	method, target, _ := strings.Cut(text, " ")
	u, err := url.Parse(target)
	if err != nil || u.Host == "" {
		return policy.Call{}, fmt.Errorf("--call %q: want a method and a URL, such as GET https://tickets.example.org/v1/tickets", text)
	}
	call, err := policy.ParseCall(policy.RawCall{Method: method, Scheme: u.Scheme, Authority: u.Host, Target: u.RequestURI(), At: now})
	if err != nil {
		return policy.Call{}, fmt.Errorf("--call %q: %w", text, err)
	}
	return call, nil
}
