package proxy

import (
	"strings"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/policy"
)

// Bounds on what a record keeps of a call that was not well formed; a parsed
// one is bounded by policy.ParseCall.
const (
	maxRecordedMethod = 32
	maxRecordedHost   = 255 // RFC 1035 section 2.3.4
	maxRecordedPath   = 2048
)

// record is the check's decision as it goes into the audit.
func (c *check) record() audit.Decision {
	d := audit.Decision{
		ID: c.id, Time: c.began, Subject: c.subject(), Call: c.recordedCall(),
		Reason: c.decision.Reason, Removed: c.removed, Request: clip(c.request.id, maxRecordedHost),
		Store: c.revision, Next: c.decision.Next,
	}
	if denied := c.decision.Policy; denied != nil && c.decision.Reason == policy.PolicyDenied {
		d.Policy = clip(denied.Rule, maxRecordedPath)
	}
	if c.catalog != nil {
		d.Catalog = c.catalog.Revision()
	}
	return d
}

// subject is what is known of who calls. The task is named only if it is the
// peer's own.
func (c *check) subject() audit.Subject {
	if held := c.decision.Held; held != nil {
		return audit.SubjectOf(&held.Grant)
	}
	s := audit.Subject{Instance: c.instance, Destination: c.destination()}
	if c.agent != nil {
		s.Agent, s.Owner = c.agent.Name, c.agent.OwnerGroups
	}
	if c.view != nil {
		s.Task = c.view.Task.ID
	}
	return s
}

// destination is the catalog's name for what was called, "" when it has none.
func (c *check) destination() string {
	if held := c.decision.Held; held != nil {
		return held.Grant.Destination
	}
	if c.catalog == nil || c.call.Host == "" {
		return ""
	}
	d, ok := c.catalog.DestinationByHost(c.call.Host, c.call.Port)
	if !ok {
		return ""
	}
	return d.Name
}

// capability is the name of the one in question, "" when there is none.
func (c *check) capability() string {
	if held := c.decision.Held; held != nil {
		return held.Grant.Capability
	}
	return ""
}

func (c *check) recordedCall() audit.Call {
	if c.call.Host != "" {
		return audit.CallOf(&c.call)
	}
	return rawCall(c.raw.Method, c.raw.Scheme, c.raw.Authority, c.raw.Target)
}

// rawCall is what is recorded of a call that has no canonical form. Its query
// is left out, because it cannot be told apart into names and values.
func rawCall(method, scheme, authority, target string) audit.Call {
	path, _, _ := strings.Cut(target, "?")
	return audit.Call{
		Method: clip(method, maxRecordedMethod), Scheme: clip(scheme, maxRecordedMethod),
		Host: clip(authority, maxRecordedHost), Path: clip(path, maxRecordedPath),
	}
}

// clip keeps at most n bytes of s, as valid UTF-8.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
