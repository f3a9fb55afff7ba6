package audit

import (
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// Constants of OCSF 1.3.0: category Application Activity, class API Activity.
const (
	ocsfVersion  = "1.3.0"
	ocsfCategory = 6
	ocsfClass    = 6003

	activityCreate = 1
	activityRead   = 2
	activityUpdate = 3
	activityDelete = 4
	activityOther  = 99

	severityInfo   = 1
	severityLow    = 2
	severityMedium = 3
	severityHigh   = 4
)

// recordType is what a record is, in unmapped.type.
type recordType string

const (
	typeDecision   recordType = "decision"
	typeTransition recordType = "transition"
	typeCredential recordType = "credential"
	typeOutcome    recordType = "outcome"
	typeConfig     recordType = "config"
	typeApproval   recordType = "approval"
	typeGap        recordType = "gap"
)

var recordTypes = [...]recordType{
	typeDecision, typeTransition, typeCredential, typeOutcome, typeConfig, typeApproval, typeGap,
}

// The encoders below write a record from inside its "unmapped" object on: the
// writer puts the sequence number and the previous hash before it (see chain).
// Each first writes what is Exeat's own, then what OCSF has a place for.

// ocsf is the part that every record has, after unmapped.
type ocsf struct {
	at        time.Time
	activity  int64
	severity  int64
	ok        bool
	status    string // status_detail
	operation string
	request   string
	user      string
	owner     []string
	instance  policy.Instance
}

// event writes the base event and the class's required attributes: actor, api,
// src_endpoint.
func (e *encoder) event(o ocsf) {
	e.number("time", o.at.UnixMilli())
	e.when("time_dt", o.at)
	e.number("category_uid", ocsfCategory)
	e.number("class_uid", ocsfClass)
	e.number("activity_id", o.activity)
	e.number("type_uid", ocsfClass*100+o.activity)
	e.number("severity_id", o.severity)
	if o.ok {
		e.number("status_id", 1)
		e.text("status", "Success")
	} else {
		e.number("status_id", 2)
		e.text("status", "Failure")
	}
	e.text("status_detail", o.status)
	e.actor(o.user, o.owner)
	e.open("api")
	e.text("operation", o.operation)
	e.open("service")
	e.text("name", "exeat")
	e.close()
	if o.request != "" {
		e.open("request")
		e.text("uid", o.request)
		e.close()
	}
	e.close()
	e.open("src_endpoint")
	e.text("uid", string(o.instance))
	e.close()
}

// actor writes who did it. Owners are the groups that answer for an agent.
func (e *encoder) actor(name string, groups []string) {
	e.open("actor")
	e.open("user")
	e.text("name", name)
	if len(groups) > 0 {
		e.array("groups")
		for _, g := range groups[:min(len(groups), maxItems)] {
			e.comma()
			e.b = append(e.b, '{')
			e.text("name", g)
			e.close()
		}
		e.end()
	}
	e.close()
	e.close()
}

// endpoint writes the call's destination and request.
func (e *encoder) endpoint(c *Call) {
	if c.Host == "" && c.Method == "" {
		return
	}
	e.open("dst_endpoint")
	e.text("hostname", c.Host)
	e.count("port", int64(c.Port))
	e.close()
	e.open("http_request")
	e.text("http_method", c.Method)
	e.open("url")
	e.text("scheme", c.Scheme)
	e.text("hostname", c.Host)
	e.count("port", int64(c.Port))
	e.bounded("path", c.Path, maxPath)
	e.close()
	e.close()
}

// subject writes what every record is found by, under the same keys in all.
func (e *encoder) subject(t recordType, s *Subject) {
	e.text("type", string(t))
	e.text("agent", s.Agent)
	e.list("owner", s.Owner)
	e.text("instance", string(s.Instance))
	e.text("task", string(s.Task))
	e.text("grant", string(s.Grant))
	e.text("capability", s.Capability)
	e.text("destination", s.Destination)
}

// queryNames writes the names of query parameters, never their values.
func (e *encoder) queryNames(query []policy.QueryParam) {
	if len(query) == 0 {
		return
	}
	e.array("query")
	for _, q := range query[:min(len(query), maxItems)] {
		e.comma()
		e.b = appendString(e.b, q.Name, maxText)
	}
	e.end()
}

// next writes what a denied agent was told; its parameters come from the path,
// which is recorded anyway.
func (e *encoder) next(next []policy.Next) {
	if len(next) == 0 {
		return
	}
	e.array("next")
	for _, n := range next[:min(len(next), maxItems)] {
		e.comma()
		e.b = append(e.b, '{')
		e.text("action", n.Action)
		e.text("capability", n.Capability)
		e.text("approval", n.Approval)
		if len(n.Params) > 0 {
			e.key("params")
			e.b = append(e.b, '{')
			for k, v := range n.Params {
				e.comma()
				e.b = appendString(e.b, k, maxText)
				e.b = append(e.b, ':')
				e.b = appendString(e.b, v, maxText)
			}
			e.close()
		}
		e.close()
	}
	e.end()
}

func (e *encoder) decision(d *Decision) {
	allowed := d.Reason == policy.Allowed
	e.subject(typeDecision, &d.Subject)
	e.text("decision", d.ID)
	e.text("reason", d.Reason.String())
	e.text("request", d.Request)
	e.queryNames(d.Call.Query)
	e.list("removed", d.Removed)
	e.text("catalog", d.Catalog)
	e.count("store", d.Store)
	e.text("policy", d.Policy)
	e.next(d.Next)
	e.close()
	o := ocsf{
		at: d.Time, activity: activityOf(d.Call.Method), severity: severityLow, ok: allowed,
		status: d.Reason.String(), operation: d.Call.Method, request: d.Request,
		user: d.Agent, owner: d.Owner, instance: d.Instance,
	}
	// The security_control profile says what was done about it.
	action, words := int64(2), "Denied"
	if allowed {
		action, words, o.severity = 1, "Allowed", severityInfo
	}
	e.number("action_id", action)
	e.text("action", words)
	e.event(o)
	e.endpoint(&d.Call)
}

func (e *encoder) transition(t *Transition) {
	e.subject(typeTransition, &t.Subject)
	e.text("scope", t.Scope)
	e.text("from", t.From.String())
	e.text("to", t.To.String())
	e.when("until", t.Until)
	e.text("end", string(t.End))
	e.text("by", t.By)
	e.text("why", t.Why)
	e.text("digest", t.Digest)
	e.text("catalog", t.Catalog)
	e.count("store", t.Store)
	e.flag("recovered", t.Recovered)
	e.close()
	noun := "task "
	switch {
	case t.Scope != "":
		noun = "scope "
	case t.Grant != "":
		noun = "grant "
	}
	// A refusal is the one transition that is a failure: what was asked for did
	// not come to be.
	o := ocsf{
		at: t.Time, activity: activityUpdate, severity: severityInfo, ok: t.End != policy.EndRefused,
		status: string(t.End), operation: noun + t.To.String(),
		user: t.By, owner: t.Owner, instance: t.Instance,
	}
	switch {
	case t.From == policy.StateNone:
		o.activity = activityCreate
	case t.To == policy.Ended:
		o.activity = activityDelete
	}
	e.event(o)
}

func (e *encoder) approval(a *ApprovalEvent) {
	e.subject(typeApproval, &a.Subject)
	e.text("approval", string(a.Approval))
	e.text("action", string(a.Action))
	e.text("by", a.By)
	e.text("why", a.Why)
	e.text("digest", a.Digest)
	e.text("catalog", a.Catalog)
	e.count("given", int64(a.Given))
	e.count("wanted", int64(a.Wanted))
	e.close()
	o := ocsf{
		at: a.Time, activity: activityUpdate, severity: severityInfo, ok: a.Action != ApprovalRefused,
		status: string(a.Action), operation: "approval " + string(a.Action), user: a.By, owner: a.Owner, instance: a.Instance,
	}
	if a.Action == ApprovalRequested {
		o.activity = activityCreate
	}
	e.event(o)
}

func (e *encoder) credential(c *CredentialEvent) {
	e.subject(typeCredential, &c.Subject)
	e.text("credential", string(c.Action))
	e.text("provider", c.Provider)
	e.text("outcome", c.Outcome)
	e.text("handle", c.Handle)
	e.when("expires", c.Expires)
	// Rounded up: a second too many is honest, one too few is not.
	e.count("outlives_seconds", int64((c.Outlives+time.Second-1)/time.Second))
	e.text("detail", c.Detail)
	e.close()
	o := ocsf{
		at: c.Time, activity: activityCreate, severity: severityInfo, ok: c.Outcome != "failed",
		status: c.Outcome, operation: "credential " + string(c.Action),
		user: c.Agent, owner: c.Owner, instance: c.Instance,
	}
	if c.Action == CredentialRevoked {
		o.activity = activityDelete
	}
	if !o.ok {
		o.severity = severityMedium
	}
	e.event(o)
}

func (e *encoder) outcome(c *Outcome) {
	e.subject(typeOutcome, &c.Subject)
	e.text("decision", c.Decision)
	e.text("request", c.Request)
	e.queryNames(c.Call.Query)
	e.number("code", int64(c.Status))
	e.text("details", c.Details)
	e.list("flags", c.Flags)
	e.count("sent", int64(c.Sent))
	e.count("received", int64(c.Received))
	e.number("duration_us", c.Duration.Microseconds())
	e.close()
	// The status is the upstream's answer, not ours: that is the decision's record.
	e.event(ocsf{
		at: c.Time, activity: activityOf(c.Call.Method), severity: severityInfo,
		ok: c.Status >= 100 && c.Status < 400, status: c.Details, operation: c.Call.Method,
		request: c.Request, user: c.Agent, owner: c.Owner, instance: c.Instance,
	})
	e.endpoint(&c.Call)
	e.open("http_response")
	e.number("code", int64(c.Status))
	e.close()
}

func (e *encoder) config(c *ConfigEvent) {
	e.subject(typeConfig, &c.Subject)
	e.text("resource", c.Resource)
	e.text("version", c.Version)
	e.bounded("error", c.Error, maxPath)
	e.close()
	o := ocsf{
		at: c.Time, activity: activityUpdate, severity: severityInfo, ok: c.Accepted,
		status: "accepted", operation: "sidecar configuration",
		user: c.Agent, owner: c.Owner, instance: c.Instance,
	}
	if !c.Accepted {
		o.status, o.severity = "rejected", severityMedium
	}
	e.event(o)
}

func (e *encoder) gap(g *Gap) {
	e.text("type", string(typeGap))
	e.text("gap", string(g.Kind))
	e.when("since", g.Since)
	e.when("until", g.Until)
	e.count("denied", int64(g.Denied))
	e.count("kept", int64(g.Kept))
	e.count("lost", int64(g.Lost))
	e.count("bytes", g.Bytes)
	e.text("detail", g.Detail)
	e.close()
	o := ocsf{
		at: g.Time, activity: activityOther, severity: severityMedium, status: string(g.Kind),
		operation: "audit gap", user: "exeat",
	}
	if g.Kind.Tampering() {
		o.severity = severityHigh
	}
	e.event(o)
}

// activityOf maps a method to what it does by its definition (RFC 9110 section 9).
func activityOf(method string) int64 {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return activityRead
	case "POST":
		return activityCreate
	case "PUT", "PATCH":
		return activityUpdate
	case "DELETE":
		return activityDelete
	default:
		return activityOther
	}
}
