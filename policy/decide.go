package policy

import "time"

// Decide answers one call of an agent within a task at now. It is pure, takes
// no lock and allocates only on denial. nil view: unknown_task.
//
// The reasons are looked at in this order: malformed_call, unknown_agent,
// unknown_task (also a task of another agent), grant_ended or grant_expired
// for a task that is over, unknown_destination, then the grants. Among those
// that are live and cover the call the narrowest is taken: by its rule (see
// rule.width), then the one that ends first, then the lower ID.
//
// With none, the reason is the closest: of a covering grant
// credential_unavailable, approval_pending, uses_exhausted, grant_expired or grant_ended; then
// of live ones what their rules lack; then that of an ended grant for the
// destination which the catalog no longer gives; else no_grant.
func Decide(cat *Catalog, agent *Agent, view *TaskView, call *Call, now time.Time) Decision {
	d := decide(cat, agent, view, call, now)
	if d.Reason.Retry() == RetryRequestGrant && view.Task.Live(now) {
		d.Next = cat.Suggest(agent, call)
	}
	if d.Reason == ApprovalPending && d.Held != nil {
		d.Next = Awaiting(&d.Held.Grant)
	}
	return d
}

func decide(cat *Catalog, agent *Agent, view *TaskView, call *Call, now time.Time) Decision {
	switch {
	case call == nil || !call.ok:
		return Decision{Reason: MalformedCall}
	case agent == nil || agent.Name == "":
		return Decision{Reason: UnknownAgent}
	case view == nil || view.Task.ID == "" || view.Task.Agent != agent.Name:
		return Decision{Reason: UnknownTask}
	}
	if r := standing(&view.Task.Life, now); r != Allowed {
		if r == ApprovalPending { // a task awaits nobody: it has not begun
			r = UnknownTask
		}
		return Decision{Reason: r}
	}
	dest, ok := cat.DestinationByHost(call.Host, call.Port)
	if !ok || !dest.serves(call) {
		return Decision{Reason: UnknownDestination}
	}
	if call.GrantID != "" {
		return decideNamed(view, call, now)
	}
	if h := narrowest(view, call, now); h != nil {
		return Decision{Reason: Allowed, Held: h}
	}
	return closest(view, dest, call, now)
}

// decideNamed looks at the one grant that the call names, and at no other.
func decideNamed(view *TaskView, call *Call, now time.Time) Decision {
	for _, h := range view.Held {
		if !h.in(view) || h.Grant.ID != call.GrantID {
			continue
		}
		if r := h.standing(call, now); r != Allowed {
			return Decision{Reason: r, Held: h}
		}
		return Decision{Reason: h.Resolved.Match(call), Held: h}
	}
	return Decision{Reason: NoGrant}
}

// narrowest gives the narrowest grant that allows the call, or nil.
func narrowest(view *TaskView, call *Call, now time.Time) *Held {
	var best *Held
	var width uint32
	for _, h := range view.Held {
		if !h.in(view) || h.standing(call, now) != Allowed {
			continue
		}
		r, w := h.Resolved.match(call)
		if r == Allowed && (best == nil || narrower(h, w, best, width)) {
			best, width = h, w
		}
	}
	return best
}

func narrower(h *Held, width uint32, than *Held, thanWidth uint32) bool {
	switch {
	case width != thanWidth:
		return width < thanWidth
	case !h.Grant.Until.Equal(than.Grant.Until):
		return h.Grant.Until.Before(than.Grant.Until)
	default:
		return h.Grant.ID < than.Grant.ID
	}
}

// closest explains a denial by the grant that came closest.
func closest(view *TaskView, dest *Destination, call *Call, now time.Time) Decision {
	d := Decision{Reason: NoGrant}
	best := 0
	for _, h := range view.Held {
		if !h.in(view) {
			continue
		}
		r, near := h.nearness(dest, call, now)
		if near > best || near == best && near > 0 && h.after(d.Held) {
			best, d = near, Decision{Reason: r, Held: h}
		}
	}
	return d
}

// nearness says why the grant does not allow the call, and how close it came;
// 0 when it has nothing to do with it.
func (h *Held) nearness(dest *Destination, call *Call, now time.Time) (Reason, int) {
	s := h.standing(call, now)
	if h.Resolved == nil {
		if h.Grant.Destination == dest.Name {
			return s, 1
		}
		return s, 0
	}
	m := h.Resolved.Match(call)
	switch {
	case m == Allowed && s == CredentialUnavailable:
		return s, 8
	case m == Allowed && s == ApprovalPending:
		return s, 7
	case m == Allowed && s == UsesExhausted:
		return s, 6
	case m == Allowed && s != Allowed:
		return s, 5
	case s != Allowed && s != CredentialUnavailable && s != UsesExhausted, h.Grant.Destination != dest.Name:
		return s, 0
	case m == BodyNotGranted:
		return m, 4
	case m == QueryNotGranted:
		return m, 3
	}
	return m, 2
}

// after orders grants that are equally close: the one made last speaks.
func (h *Held) after(o *Held) bool {
	if h.MadeAt != o.MadeAt {
		return h.MadeAt > o.MadeAt
	}
	return h.Grant.ID > o.Grant.ID
}

// in reports whether the grant belongs to the task that it was found in. One
// that does not is a defect of the index and serves nothing.
func (h *Held) in(view *TaskView) bool {
	return h != nil && h.Grant.Task == view.Task.ID && h.Grant.Agent == view.Task.Agent
}

// standing says whether the grant serves calls such as this one at now at all;
// Allowed when so.
func (h *Held) standing(call *Call, now time.Time) Reason {
	if r := standing(&h.Grant.Life, now); r == GrantExpired || r == GrantEnded {
		return r
	} else if h.Raised() {
		return GrantEnded
	} else if r != Allowed {
		return r
	}
	switch {
	case h.Resolved == nil, h.Resolved.Digest == "", h.Resolved.Digest != h.Grant.Digest:
		return GrantEnded // the catalog in force gives another capability, or none
	case h.Resolved.Provider != nil && (h.Credential == nil || h.Credential.Grant != h.Grant.ID):
		return CredentialUnavailable
	case h.spent(call):
		return UsesExhausted
	}
	return Allowed
}

// standing says whether a life serves calls at now; Allowed when so.
func standing(l *Life, now time.Time) Reason {
	switch {
	case l.State == Ended && (l.End == EndExpired || l.End == EndRequestExpired):
		return GrantExpired
	case l.State == Ended:
		return GrantEnded
	case l.ranOut(now):
		return GrantExpired
	case l.State == Pending:
		return ApprovalPending
	case l.Live(now):
		return Allowed
	}
	return GrantEnded // paused, or no state at all
}
