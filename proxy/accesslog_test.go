package proxy

import (
	"errors"
	"slices"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/policy"
)

const decisionID = "d_01KJVKW73R8P8FJAS5FCKFC9AQ"

// logged is the entry of a call in the task's room, as Envoy sends it.
func logged(status uint32, details string, meta map[string]string) *datav3.HTTPAccessLogEntry {
	fields := map[string]*structpb.Value{}
	for k, v := range meta {
		fields[k] = structpb.NewStringValue(v)
	}
	e := &datav3.HTTPAccessLogEntry{
		CommonProperties: &datav3.AccessLogCommon{
			DownstreamLocalAddress: inRoom(policy.RoomName(taskID)),
			Duration:               durationpb.New(3 * time.Second),
			ResponseFlags:          &datav3.ResponseFlags{StreamIdleTimeout: true},
		},
		Request: &datav3.HTTPRequestProperties{
			RequestMethod: corev3.RequestMethod_GET, Scheme: "https", Authority: "tickets.example.org",
			Path: "/v1/tickets/OPS-42?token=secret", RequestId: "e905d206", RequestBodyBytes: 5,
		},
		Response: &datav3.HTTPResponseProperties{
			ResponseCode: wrapperspb.UInt32(status), ResponseCodeDetails: details, ResponseBodyBytes: 7,
		},
	}
	if len(meta) > 0 {
		e.CommonProperties.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{extAuthz: {Fields: fields}}}
	}
	return e
}

func inRoom(listener string) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
		AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: listener},
	}}}
}

func TestHowAnAllowedCallEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.server(t, sidecarOne)
	s.ended(t.Context(), sidecarOne, logged(200, "via_upstream", map[string]string{metaDecision: decisionID, metaGrant: string(grantID)}))
	if len(w.decisions) != 0 || len(w.outcomes) != 1 {
		t.Fatalf("%d decisions and %d outcomes; want one outcome", len(w.decisions), len(w.outcomes))
	}
	o := w.outcomes[0]
	if o.Decision != decisionID || o.Task != taskID || o.Grant != grantID || o.Capability != "read-ticket" || o.Destination != "tickets" {
		t.Errorf("the outcome is of %+v", o)
	}
	if o.Status != 200 || o.Sent != 5 || o.Received != 7 || o.Duration != 3*time.Second || o.Request != "e905d206" {
		t.Errorf("the outcome says %+v", o)
	}
	if o.Details != "via_upstream" || !slices.Equal(o.Flags, []string{"stream_idle_timeout"}) {
		t.Errorf("the outcome's details are %q, %v", o.Details, o.Flags)
	}
	if o.Call.Path != "/v1/tickets/OPS-42" || o.Call.Host != "tickets.example.org" || o.Call.Port != 443 {
		t.Errorf("the outcome's call is %+v", o.Call)
	}
}

// entries are told by sidecarOne; each should leave these records.
func TestWhatEntriesLeave(t *testing.T) {
	t.Parallel()
	room := func(e *datav3.HTTPAccessLogEntry, listener string) *datav3.HTTPAccessLogEntry {
		e.CommonProperties.DownstreamLocalAddress = inRoom(listener)
		return e
	}
	api := logged(200, "via_upstream", nil)
	api.Request.Authority = policy.HostAPI + ":80"
	garbage := logged(400, "http1.codec_error", nil)
	garbage.Request = &datav3.HTTPRequestProperties{}
	for says, row := range map[string]struct {
		peer     policy.Instance
		entry    *datav3.HTTPAccessLogEntry
		late     policy.Reason // Allowed: no decision is recorded
		outcomes int
		id       string // of the outcome; "-": any that was made for it
	}{
		"allowed":                          {entry: logged(200, "via_upstream", map[string]string{metaDecision: decisionID}), late: policy.Allowed, outcomes: 1, id: decisionID},
		"denied, recorded before":          {entry: logged(403, "ext_authz_denied", map[string]string{metaDecision: decisionID}), late: policy.Allowed, outcomes: 1, id: decisionID},
		"denied for overload":              {entry: logged(503, "ext_authz_denied", map[string]string{metaDecision: decisionID, metaUnrecorded: "overloaded"}), late: policy.Overloaded, outcomes: 1, id: decisionID},
		"denied without record":            {entry: logged(503, "ext_authz_denied", map[string]string{metaDecision: decisionID, metaUnrecorded: "audit_unavailable"}), late: policy.AuditUnavailable, outcomes: 1, id: decisionID},
		"denied without record, unknown":   {entry: logged(503, "ext_authz_denied", map[string]string{metaDecision: decisionID, metaUnrecorded: "allowed"}), late: policy.Internal, outcomes: 1, id: decisionID},
		"refused as malformed":             {entry: garbage, late: policy.MalformedCall, outcomes: 1, id: "-"},
		"refused as too large":             {entry: logged(413, "request_payload_too_large", nil), late: policy.MalformedCall, outcomes: 1, id: "-"},
		"refused, with an ID that is none": {entry: logged(400, "x", map[string]string{metaDecision: "d_x"}), late: policy.MalformedCall, outcomes: 1, id: "-"},
		"the Check failed":                 {entry: logged(503, "ext_authz_error", nil), late: policy.Allowed, outcomes: 1},
		"the client went away":             {entry: logged(0, "downstream_remote_disconnect", nil), late: policy.Allowed, outcomes: 1},
		"the API":                          {entry: api, late: policy.Allowed},
		"no room":                          {entry: room(logged(407, "direct_response", nil), "egress"), late: policy.Allowed},
		"a room of no task":                {entry: room(logged(400, "x", nil), "room/t_x"), late: policy.Allowed},
		"another instance's task":          {peer: sidecarTwo, entry: logged(400, "x", nil), late: policy.Allowed},
		"another agent's task":             {peer: sidecarElse, entry: logged(200, "via_upstream", map[string]string{metaDecision: decisionID}), late: policy.Allowed},
		"nothing":                          {entry: &datav3.HTTPAccessLogEntry{}, late: policy.Allowed},
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			w, peer := newWorld(t), row.peer
			if peer == "" {
				peer = sidecarOne
			}
			w.server(t, string(peer)).ended(t.Context(), peer, row.entry)
			if got := w.lateReason(); got != row.late {
				t.Errorf("the late record says %s, want %s", got, row.late)
			}
			if len(w.outcomes) != row.outcomes {
				t.Fatalf("%d outcomes, want %d", len(w.outcomes), row.outcomes)
			}
			if row.outcomes == 0 {
				return
			}
			id := w.outcomes[0].Decision
			if row.id == "-" && (!isDecisionID(id) || id == decisionID || id != w.decisions[0].ID) || row.id != "-" && id != row.id {
				t.Errorf("the outcome is of decision %q", id)
			}
		})
	}
}

// lateReason is that of the one decision that was recorded, or Allowed for none.
func (w *world) lateReason() policy.Reason {
	if len(w.decisions) == 0 {
		return policy.Allowed
	}
	return w.decisions[0].Reason
}

func TestAnOutcomeIsKeptWhenItsLateRecordIsNot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.onRecord = func(audit.Decision) error { return errors.New("full") }
	w.server(t, sidecarOne).ended(t.Context(), sidecarOne, logged(400, "http1.codec_error", nil))
	if len(w.outcomes) != 1 || w.outcomes[0].Decision == "" {
		t.Errorf("outcomes: %+v", w.outcomes)
	}
}

func TestDecisionIDs(t *testing.T) {
	t.Parallel()
	if id := audit.NewDecisionID(epoch); !isDecisionID(id) {
		t.Errorf("%q is none", id)
	}
	for _, id := range []string{"", "d_", "d_01KJVKW73R8P8FJAS5FCKFC9A", "d_01KJVKW73R8P8FJAS5FCKFC9AQQ", "g_01KJVKW73R8P8FJAS5FCKFC9AQ",
		"d_01KJVKW73R8P8FJAS5FCKFC9AI", "d_01kjvkw73r8p8fjas5fckfc9aq", "d_01KJVKW73R8P8FJAS5FCKFC9A\n"} {
		if isDecisionID(id) {
			t.Errorf("%q is taken for one", id)
		}
	}
}

func TestAPanicOverAnEntryIsNotTheServers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.onRecord = func(audit.Decision) error { panic("secret") }
	s := w.server(t, sidecarOne)
	s.guardedEnded(t.Context(), sidecarOne, logged(400, "http1.codec_error", nil))
	s.guardedEnded(t.Context(), sidecarOne, logged(200, "via_upstream", map[string]string{metaDecision: decisionID}))
	if len(w.outcomes) != 1 {
		t.Errorf("%d outcomes after the panic, want 1", len(w.outcomes))
	}
}

func TestACallThatNamesNoTaskLeavesARecord(t *testing.T) {
	t.Parallel()
	at := &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "127.0.0.1"}}}
	for name, c := range map[string]struct {
		peer    policy.Instance
		status  uint32
		address *corev3.Address
		want    int
	}{
		"a sidecar turned one away":       {sidecarOne, 407, at, 1},
		"another status":                  {sidecarOne, 503, at, 0},
		"a room of another":               {sidecarOne, 407, inRoom("room/t_01"), 0},
		"nobody's sidecar turned it away": {"spiffe://example.org/nobody", 407, at, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := w.server(t, sidecarOne)
			e := logged(c.status, "direct_response", nil)
			e.CommonProperties.DownstreamLocalAddress = c.address
			e.Request.RequestMethod, e.Request.Scheme, e.Request.Path = corev3.RequestMethod_CONNECT, "", ""
			e.Request.Authority = "tickets.example.org:443"
			s.ended(t.Context(), c.peer, e)
			if len(w.decisions) != c.want || len(w.outcomes) != 0 {
				t.Fatalf("%d decisions, %d outcomes; want %d and none", len(w.decisions), len(w.outcomes), c.want)
			}
			if c.want == 1 && (w.decisions[0].Reason != policy.UnknownTask || w.decisions[0].Agent == "" || w.decisions[0].Call.Host != "tickets.example.org:443") {
				t.Errorf("recorded %+v", w.decisions[0])
			}
		})
	}
}
