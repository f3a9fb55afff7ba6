package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/policy"
)

const (
	// extAuthz is the namespace of the dynamic metadata that an answer carries.
	extAuthz = "envoy.filters.http.ext_authz"
	// viaUpstream are the details of a response that the upstream gave, and
	// authzError of a call whose Check failed (Envoy's response code details).
	viaUpstream = "via_upstream"
	authzError  = "ext_authz_error"
	// roomPrefix begins a room's listener name.
	roomPrefix = "room/"

	maxDetails = 256
)

// StreamAccessLogs takes how calls ended (envoy.service.accesslog.v3). Envoy
// loses entries silently when the stream is down: they add to the record of
// decisions, which stays the truth.
func (s *Server) StreamAccessLogs(stream alsv3.AccessLogService_StreamAccessLogsServer) error {
	ctx := stream.Context()
	peer, err := s.peer(ctx)
	if err != nil {
		s.metrics.refused.Inc()
		return status.Error(codes.Unauthenticated, "a client certificate with a SPIFFE ID is needed")
	}
	instance := policy.Instance(peer.String())
	if !s.isSidecar(instance) {
		s.metrics.refused.Inc()
		return status.Error(codes.PermissionDenied, "only a sidecar may call this")
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&alsv3.StreamAccessLogsResponse{})
		}
		if err != nil {
			return err
		}
		for _, e := range m.GetHttpLogs().GetLogEntry() {
			s.guardedEnded(ctx, instance, e)
		}
	}
}

func (s *Server) isSidecar(i policy.Instance) bool {
	catalog := s.index.Catalog()
	if catalog == nil {
		return false
	}
	_, ok := catalog.AgentBySidecar(string(i))
	return ok
}

// entry is one call's end, as the access log tells it.
type entry struct {
	*datav3.HTTPAccessLogEntry
	view     *policy.TaskView
	call     audit.Call
	subject  audit.Subject
	decision string
	// held is the grant that the call was decided under, nil when it is gone;
	// use is its use of it, if that is to be settled.
	held *policy.Held
	use  string
	// unrecorded is the reason of a denial that still needs its record.
	unrecorded string
}

// guardedEnded keeps a panic over one entry from ending the process.
func (s *Server) guardedEnded(ctx context.Context, instance policy.Instance, log *datav3.HTTPAccessLogEntry) {
	defer func() {
		if recover() != nil {
			s.log.LogAttrs(ctx, slog.LevelError, "access log entry panicked",
				slog.String("peer", string(instance)), slog.String("stack", string(debug.Stack())))
		}
	}()
	s.ended(ctx, instance, log)
}

// ended records one entry. What the peer says of other sidecars' tasks is not
// listened to.
func (s *Server) ended(ctx context.Context, instance policy.Instance, log *datav3.HTTPAccessLogEntry) {
	view := s.room(instance, log.GetCommonProperties())
	if view == nil {
		s.turnedAway(ctx, instance, log)
		return
	}
	if isAPI(log.GetRequest().GetAuthority()) {
		return
	}
	e := s.read(view, log)
	switch {
	case e.decision == "" && e.rejected():
		s.late(ctx, &e, audit.NewDecisionID(s.now()), policy.MalformedCall)
	case e.unrecorded != "":
		s.late(ctx, &e, e.decision, lateReason(e.unrecorded))
	}
	s.metrics.ended(int(log.GetResponse().GetResponseCode().GetValue()), e.subject.Destination)
	s.audit.Outcome(ctx, e.outcome(s.now()))
	s.settle(ctx, &e)
}

// room finds the task whose room the entry is of, if it is the peer's.
func (s *Server) room(instance policy.Instance, p *datav3.AccessLogCommon) *policy.TaskView {
	name := p.GetDownstreamLocalAddress().GetEnvoyInternalAddress().GetServerListenerName()
	task, ok := strings.CutPrefix(name, roomPrefix)
	if !ok {
		return nil
	}
	view := s.index.Task(policy.TaskID(task))
	if view == nil || view.Task.Instance != instance {
		return nil
	}
	return view
}

func isAPI(authority string) bool {
	return authority == policy.HostAPI || strings.HasPrefix(authority, policy.HostAPI+":")
}

// read takes what an entry says.
func (s *Server) read(view *policy.TaskView, log *datav3.HTTPAccessLogEntry) entry {
	e := entry{HTTPAccessLogEntry: log, view: view}
	meta := log.GetCommonProperties().GetMetadata().GetFilterMetadata()[extAuthz].GetFields()
	if id := text(meta, metaDecision); isDecisionID(id) {
		e.decision, e.unrecorded, e.use = id, text(meta, metaUnrecorded), text(meta, metaUse)
	}
	r := log.GetRequest()
	e.call = rawCall(r.GetRequestMethod().String(), r.GetScheme(), r.GetAuthority(), r.GetPath())
	e.subject = audit.Subject{Agent: view.Task.Agent, Instance: view.Task.Instance, Task: view.Task.ID}
	if held := heldIn(view, policy.GrantID(text(meta, metaGrant))); held != nil {
		e.held = held
		e.subject = audit.SubjectOf(&held.Grant)
	}
	s.name(&e)
	return e
}

// name gives the call its canonical form and the catalog's names, where it has any.
func (s *Server) name(e *entry) {
	r := e.GetRequest()
	call, err := policy.ParseCall(policy.RawCall{
		Method: e.call.Method, Scheme: r.GetScheme(), Authority: r.GetAuthority(), Target: r.GetPath(),
	})
	catalog := s.index.Catalog()
	if catalog == nil {
		return
	}
	if agent, ok := catalog.Agent(e.subject.Agent); ok && e.subject.Owner == nil {
		e.subject.Owner = agent.OwnerGroups
	}
	if err != nil {
		return
	}
	e.call = audit.CallOf(&call)
	if d, ok := catalog.DestinationByHost(call.Host, call.Port); ok && e.subject.Destination == "" {
		e.subject.Destination = d.Name
	}
}

// rejected reports whether Envoy refused the call before it came to a Check.
// Not so when the Check failed, which has a record of its own or none that
// could be told here, nor when the client went away (no response code).
func (e *entry) rejected() bool {
	details := e.GetResponse().GetResponseCodeDetails()
	return e.GetResponse().GetResponseCode().GetValue() >= 400 && details != viaUpstream && details != authzError
}

// lateReason is the denial of that name; a name that is none, internal.
func lateReason(name string) policy.Reason {
	const more = 64 // than there are; what is beyond the enum reads as internal
	for r := policy.Allowed + 1; r < more; r++ {
		if r.String() == name {
			return r
		}
	}
	return policy.Internal
}

// late writes the record of a denial whose answer has left already. If it
// cannot be written either, the outcome that follows still names the call.
func (s *Server) late(ctx context.Context, e *entry, id string, reason policy.Reason) {
	e.decision = id
	if err := s.audit.Decision(ctx, audit.Decision{
		ID: id, Time: s.now(), Subject: e.subject, Call: e.call, Reason: reason,
		Request: clip(e.GetRequest().GetRequestId(), maxDetails),
	}); err != nil {
		s.metrics.unrecorded.Inc()
	}
}

func (e *entry) outcome(now time.Time) audit.Outcome {
	p, q, r := e.GetCommonProperties(), e.GetRequest(), e.GetResponse()
	return audit.Outcome{
		Time: now, Decision: e.decision, Subject: e.subject, Call: e.call,
		Request: clip(q.GetRequestId(), maxDetails),
		Status:  int(r.GetResponseCode().GetValue()), Details: clip(r.GetResponseCodeDetails(), maxDetails),
		Flags: flags(p.GetResponseFlags()),
		Sent:  q.GetRequestBodyBytes(), Received: r.GetResponseBodyBytes(),
		Duration: p.GetDuration().AsDuration(),
	}
}

// flags names the response flags that are set.
func flags(f *datav3.ResponseFlags) []string {
	if f == nil {
		return nil
	}
	var names []string
	f.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		names = append(names, string(fd.Name()))
		return true
	})
	return names
}

func text(fields map[string]*structpb.Value, name string) string {
	return fields[name].GetStringValue()
}

// isDecisionID reports whether id is "d_" and a ULID (26 digits of Crockford's base 32).
func isDecisionID(id string) bool {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	rest, ok := strings.CutPrefix(id, "d_")
	return ok && len(rest) == 26 && strings.Trim(rest, digits) == ""
}
