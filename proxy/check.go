package proxy

import (
	"context"
	"log/slog"
	"runtime/debug"
	"strconv"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/policy"
)

// check is one running Check: what is known of it so far.
type check struct {
	id       string    // of the decision
	began    time.Time // when it came in
	now      time.Time // when it is decided: after waiting to be fresh
	instance policy.Instance
	catalog  *policy.Catalog
	revision int64
	agent    *policy.Agent
	// view is the task's, once it is known to belong to the peer.
	view *policy.TaskView
	// chain is the destination of the filter chain that the call came in by.
	chain string
	request
	call     policy.Call // zero until it is parsed
	decision policy.Decision
	// used: a use was spent, and the end of the call is to be settled.
	used bool
	// after is how long to wait, where the denial knows it.
	after   time.Duration
	removed []string
	// own is the touch that was made for this call, if there had to be one.
	own *policy.Touch
	// refused: the peer is an agent itself, and learns nothing at all.
	refused bool
	// asked: the call has asked for a grant by being made.
	asked bool
}

// Check answers one ext_authz request (envoy.service.auth.v3). A call is
// allowed only by an answer with status OK; every error denies it too.
func (s *Server) Check(ctx context.Context, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	peer, err := s.peer(ctx)
	if err != nil {
		s.metrics.refused.Inc()
		return nil, status.Error(codes.Unauthenticated, "a client certificate with a SPIFFE ID is needed")
	}
	now := s.now()
	c := &check{id: audit.NewDecisionID(now), began: now, now: now, instance: policy.Instance(peer.String())}
	if !s.load.enter() {
		return s.overloaded(c)
	}
	defer s.load.leave()
	return s.guarded(ctx, c, req)
}

// overloaded denies at once. To write a record first would be to wait in the
// very queue that is too long; the access log brings one afterwards.
func (s *Server) overloaded(c *check) (*authv3.CheckResponse, error) {
	c.decision.Reason = policy.Overloaded
	s.metrics.decided(c, s.now())
	return s.denied(c, true), nil
}

// guarded runs the check and turns a panic into a denial. What panicked may
// hold a secret and so is not logged, only where.
func (s *Server) guarded(ctx context.Context, c *check, req *authv3.CheckRequest) (resp *authv3.CheckResponse, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.LogAttrs(ctx, slog.LevelError, "check panicked",
				slog.String("decision", c.id), slog.String("stack", string(debug.Stack())))
			resp, err = s.afterPanic(ctx, c)
		}
	}()
	return s.run(ctx, c, req)
}

// afterPanic denies, with a record if even that does not panic.
func (s *Server) afterPanic(ctx context.Context, c *check) (resp *authv3.CheckResponse, err error) {
	defer func() {
		if recover() != nil {
			resp, err = nil, status.Error(codes.Internal, "internal error")
		}
	}()
	return s.deny(ctx, c, policy.Internal)
}

// run is the order of a call: fresh, decided, credential, record, last look. A
// call that something must precede, such as making durable what it is the first
// to reach, is judged, that is done, and it is judged again.
func (s *Server) run(ctx context.Context, c *check, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	for range judgeAttempts {
		resp, before, err := s.once(ctx, c, req)
		if before == nil {
			return resp, err
		}
		if !before(ctx) {
			break
		}
	}
	return s.deny(ctx, c, policy.StateStale)
}

// judgeAttempts bounds how often a call is judged: once more for its touch, for
// the grant that it asks for, and for another that came to cover it meanwhile.
const judgeAttempts = 4

// once answers on the state as it is; or, with no answer, gives what must be
// done first, which reports whether it was. No check counts as running then.
func (s *Server) once(ctx context.Context, c *check, req *authv3.CheckRequest) (*authv3.CheckResponse, func(context.Context) bool, error) {
	fresh := s.index.Fresh(ctx)
	defer s.index.Begin().Done()

	c.now = s.now()
	c.revision, c.catalog = s.index.Revision(), s.index.Catalog()
	c.decision = s.judge(ctx, c, req)
	if !fresh { // what a stale view says is for the record only
		resp, err := s.deny(ctx, c, policy.StateStale)
		return resp, nil, err
	}
	if before := s.before(c); before != nil {
		return nil, before, nil
	}
	if !c.decision.Allowed() {
		resp, err := s.deny(ctx, c, c.decision.Reason)
		return resp, nil, err
	}
	resp, err := s.allow(ctx, c, req)
	return resp, nil, err
}

// before is what must be done before the call can be answered; nil for nothing.
func (s *Server) before(c *check) func(context.Context) bool {
	if t := c.untouched(); t != nil {
		return func(ctx context.Context) bool { return s.touch(ctx, c, *t) }
	}
	if n, ok := s.onCall(c); ok {
		return func(ctx context.Context) bool { return s.request(ctx, c, n) }
	}
	return nil
}

// judge finds out who calls for what, and decides.
func (s *Server) judge(ctx context.Context, c *check, req *authv3.CheckRequest) policy.Decision {
	if reason := s.identify(c, req.GetAttributes().GetContextExtensions()); reason != policy.Allowed {
		// Read all the same: the record should say what was called.
		c.request, _ = translate(req, c.now)
		return policy.Decision{Reason: reason}
	}
	var err error
	if c.request, err = translate(req, c.now); err != nil {
		return policy.Decision{Reason: policy.MalformedCall}
	}
	if c.call, err = policy.ParseCall(c.raw); err != nil {
		return policy.Decision{Reason: policy.MalformedCall}
	}
	return s.decide(ctx, c)
}

// identify finds the agent by the peer's certificate and the task by the
// room's context extensions, which must agree with each other.
func (s *Server) identify(c *check, extensions map[string]string) policy.Reason {
	if c.catalog == nil {
		return policy.StateStale
	}
	agent, ok := c.catalog.AgentBySidecar(string(c.instance))
	if !ok {
		_, c.refused = c.catalog.AgentBySPIFFEID(string(c.instance))
		return policy.UnknownAgent
	}
	c.agent = agent

	task, name := extensions[policy.ExtensionTask], extensions[policy.ExtensionAgent]
	c.chain = extensions[policy.ExtensionDestination]
	if task == "" || name == "" || c.chain == "" {
		return policy.MalformedCall
	}
	if name != agent.Name {
		return policy.UnknownAgent
	}
	if reason := c.afterCut(extensions[policy.ExtensionCut]); reason != policy.Allowed {
		return reason
	}
	view := s.index.Task(policy.TaskID(task))
	// Another's task reads as none: nothing is told about others.
	if view == nil || view.Task.Instance != c.instance || view.Task.Agent != agent.Name {
		return policy.UnknownTask
	}
	c.view = view
	if s.index.Suspended(agent.Name) != nil {
		return policy.AgentSuspended
	}
	return policy.Allowed
}

// afterCut wants this replica to know what the chain was cut for: one that lags
// behind could open a stream anew that was just closed.
func (c *check) afterCut(text string) policy.Reason {
	if text == "" {
		return policy.Allowed // never cut
	}
	cut, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil:
		return policy.MalformedCall
	case cut > c.revision:
		return policy.StateStale
	}
	return policy.Allowed
}

// decide asks the policy, and holds its yes against the chain that the call
// came in by: that chain is the second lock.
func (s *Server) decide(ctx context.Context, c *check) policy.Decision {
	if !c.chainFits() {
		return policy.Decision{Reason: policy.MalformedCall}
	}
	d := policy.Decide(c.catalog, c.agent, c.view, &c.call, c.now)
	if d.Reason == policy.UsesExhausted && c.asksAgain(d.Held) {
		d = policy.Decide(c.catalog, c.agent, c.view, &c.call, c.now)
	}
	if d.Allowed() && !c.served(d.Held) {
		// Granted, but this sidecar is not configured for it, or not yet.
		d.Reason = policy.StateStale
	}
	if d.Allowed() {
		s.consult(ctx, c, &d, c.view)
	}
	return d
}

// chainFits compares what the call says with the chain that it came in by. One
// connection, one host: a name in TLS and another one in the request is how a
// connection is made to reach another virtual host.
func (c *check) chainFits() bool {
	if c.sni != "" && c.sni != c.call.Host {
		return false
	}
	switch c.chain {
	case policy.DestinationNone:
		return true // to be denied in any case, for the precise reason
	case policy.DestinationPlain:
		return c.call.Scheme == "http" && c.sni == ""
	}
	d, ok := c.catalog.DestinationByHost(c.call.Host, c.call.Port)
	return ok && d.Name == c.chain && c.call.Scheme == "https" && c.sni != ""
}

// served reports whether the chain has a route to the grant's destination.
func (c *check) served(held *policy.Held) bool {
	if held.Resolved == nil || held.Resolved.Destination == nil {
		return false
	}
	switch c.chain {
	case policy.DestinationNone:
		return false
	case policy.DestinationPlain:
		return held.Resolved.Destination.Plain
	}
	return held.Resolved.Destination.Name == c.chain
}

// allow spends a use, puts the credential on, writes the decision and looks
// once more at the grant before the answer leaves. Whatever denies after the
// use was spent leaves it spent.
func (s *Server) allow(ctx context.Context, c *check, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	if reason := s.consume(ctx, c); reason != policy.Allowed {
		return s.deny(ctx, c, reason)
	}
	headers, err := s.credentials.Apply(ctx, c.decision.Held, &c.call)
	if err != nil {
		return s.deny(ctx, c, s.lacking(ctx, c))
	}
	limit, ok := timeLimit(c.call.At, c.until(), c.timeout, c.hasTimeout)
	if !ok {
		return s.deny(ctx, c, policy.GrantExpired)
	}
	resp, ok := s.allowed(c, req, headers, limit)
	if !ok {
		return s.deny(ctx, c, policy.CredentialUnavailable)
	}
	if err := s.audit.Decision(ctx, c.record()); err != nil {
		return s.unrecorded(ctx, c)
	}
	if reason := s.lastLook(ctx, c); reason != policy.Allowed {
		return s.deny(ctx, c, reason)
	}
	s.metrics.decided(c, s.now())
	return answer(ctx, resp)
}

// lacking is why there is no credential: it goes with its grant, which may have
// ended since it was decided on.
func (s *Server) lacking(ctx context.Context, c *check) policy.Reason {
	if reason := s.lastLook(ctx, c); reason != policy.Allowed {
		return reason
	}
	return policy.CredentialUnavailable
}

// until is when the call's time is over: the grant's end or its task's.
func (c *check) until() time.Time {
	end := c.decision.Held.Grant.Until
	if t := c.view.Task.Until; t.Before(end) {
		return t
	}
	return end
}

// unrecorded denies a call whose decision could not be written.
func (s *Server) unrecorded(ctx context.Context, c *check) (*authv3.CheckResponse, error) {
	c.decision.Reason = policy.AuditUnavailable
	s.metrics.decided(c, s.now())
	s.metrics.unrecorded.Inc()
	return answer(ctx, s.denied(c, true))
}

// lastLook is at what may have changed while the decision was being written.
// The view is read anew: the one that was decided on never changes.
func (s *Server) lastLook(ctx context.Context, c *check) policy.Reason {
	if !s.index.Fresh(ctx) {
		return policy.StateStale
	}
	now := s.now()
	view := s.index.Task(c.view.Task.ID)
	held := heldIn(view, c.decision.Held.Grant.ID)
	switch {
	case s.index.Suspended(c.agent.Name) != nil:
		return policy.AgentSuspended
	case held == nil || held.Raised() || held.Grant.State != policy.Active:
		return policy.GrantEnded
	case held.Resolved == nil || held.Resolved.Digest != c.decision.Held.Resolved.Digest:
		return policy.GrantEnded // the catalog gives another meaning to it now
	case !held.Grant.Live(now):
		return policy.GrantExpired
	case !view.Task.Live(now):
		return policy.GrantEnded
	case !s.stillConsents(ctx, c, view, held):
		return policy.PolicyDenied
	}
	return policy.Allowed
}

// heldIn finds a grant in a task's view; nil when either is gone.
func heldIn(view *policy.TaskView, id policy.GrantID) *policy.Held {
	if view == nil {
		return nil
	}
	for _, h := range view.Held {
		if h.Grant.ID == id {
			return h
		}
	}
	return nil
}

// deny answers no for a reason. A denial that cannot be written is a denial
// all the same, with the reason that it has.
func (s *Server) deny(ctx context.Context, c *check, reason policy.Reason) (*authv3.CheckResponse, error) {
	c.decision.Reason = reason
	if c.decision.Next == nil && c.call.Host != "" && reason.Retry() == policy.RetryRequestGrant {
		c.decision.Next = c.catalog.SuggestWithin(c.view, c.agent, &c.call, c.now)
	}
	err := s.audit.Decision(ctx, c.record())
	if err != nil {
		s.metrics.unrecorded.Inc()
	}
	s.metrics.decided(c, s.now())
	if s.denials != nil && c.agent != nil {
		s.denials.Denied(ctx, c.agent, reason)
	}
	if c.refused {
		s.log.LogAttrs(ctx, slog.LevelWarn, "an agent called ext_authz itself",
			slog.String("decision", c.id), slog.String("peer", string(c.instance)))
		return nil, status.Error(codes.PermissionDenied, "only a sidecar may call this")
	}
	return answer(ctx, s.denied(c, err != nil))
}

// answer gives resp unless nobody waits for it any more: Envoy has denied the
// call by then.
func answer(ctx context.Context, resp *authv3.CheckResponse) (*authv3.CheckResponse, error) {
	if err := ctx.Err(); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	return resp, nil
}
