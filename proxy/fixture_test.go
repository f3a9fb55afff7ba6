package proxy

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/timestamppb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/credential"
	"github.com/exeat-dev/exeat/identity"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// The world of most tests: agent triage with two sidecars, agent other with
// one, and a task of triage's first sidecar with a grant to read ticket OPS-42.
const (
	taskID      = policy.TaskID("t_01JAAAAAAAAAAAAAAAAAAAAAAA")
	grantID     = policy.GrantID("g_01JAAAAAAAAAAAAAAAAAAAAAAB")
	agentSVID   = "spiffe://example.org/agent/triage"
	sidecarOne  = "spiffe://example.org/sidecar/triage/one"
	sidecarTwo  = "spiffe://example.org/sidecar/triage/two"
	sidecarElse = "spiffe://example.org/sidecar/other/one"
	minted      = "Bearer minted-for-this-grant"
)

var epoch = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func meta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

func agentOf(name string) v1alpha1.Agent {
	return v1alpha1.Agent{ObjectMeta: meta(name), Spec: v1alpha1.AgentSpec{
		SPIFFEID: "spiffe://example.org/agent/" + name, SidecarID: "spiffe://example.org/sidecar/" + name + "/{instance}",
		Owner:        v1alpha1.Owner{Groups: []string{"support"}, Contact: "support@example.org"},
		Capabilities: []v1alpha1.AgentCapability{{Name: "read-ticket"}, {Name: "file-ticket"}, {Name: "read-plain"}},
	}}
}

func capabilityOf(name, destination string, rules ...v1alpha1.CallRule) v1alpha1.Capability {
	return v1alpha1.Capability{ObjectMeta: meta(name), Spec: v1alpha1.CapabilitySpec{
		Destination: destination, Calls: rules,
		Params: map[string]v1alpha1.Param{"ticket": {Pattern: "[A-Z]+-[0-9]+"}},
	}}
}

func catalog(t testing.TB) *policy.Catalog {
	t.Helper()
	cat, problems := policy.Compile(catalogSet())
	for _, p := range problems {
		t.Fatalf("catalog: %s %s %s: %s", p.Kind, p.Name, p.Field, p.Message)
	}
	return cat
}

func catalogSet() *v1alpha1.Set {
	destination := func(name string, port int32, hosts ...string) v1alpha1.Destination {
		return v1alpha1.Destination{ObjectMeta: meta(name), Spec: v1alpha1.DestinationSpec{
			Hosts: hosts, Port: port, Headers: []string{"X-Ticket-Version", "X-Trace-*"},
		}}
	}
	get := v1alpha1.CallRule{Method: "GET", Path: "/v1/tickets/${ticket}"}
	return &v1alpha1.Set{
		Agents: []v1alpha1.Agent{agentOf("triage"), agentOf("other")},
		Destinations: []v1alpha1.Destination{
			destination("tickets", 443, "tickets.example.org", "tickets2.example.org"),
			destination("wiki", 443, "wiki.example.org"),
			destination("plain", 80, "plain.example.org"),
		},
		Capabilities: []v1alpha1.Capability{
			capabilityOf("read-ticket", "tickets", get),
			capabilityOf("file-ticket", "tickets", v1alpha1.CallRule{
				Method: "POST", Path: "/v1/tickets/${ticket}", Body: &v1alpha1.BodyRule{Any: true},
			}),
			capabilityOf("read-plain", "plain", get),
		},
	}
}

// held is an active grant of the capability for ticket OPS-42.
func held(t testing.TB, cat *policy.Catalog, id policy.GrantID, capability string) *policy.Held {
	t.Helper()
	params := map[string]string{"ticket": "OPS-42"}
	resolved, err := cat.Resolve("triage", capability, params)
	if err != nil {
		t.Fatal(err)
	}
	return &policy.Held{
		Grant: policy.Grant{
			ID: id, Task: taskID, Agent: "triage", Owner: []string{"support"}, Instance: sidecarOne,
			Capability: capability, Params: params, Destination: resolved.Destination.Name,
			Life:   policy.Life{State: policy.Active, Began: epoch, Activated: epoch, Until: epoch.Add(5 * time.Minute)},
			Digest: resolved.Digest, Catalog: cat.Revision(),
		},
		MadeAt: 7, Floors: []*policy.Floor{{}}, Resolved: resolved,
	}
}

func task(held ...*policy.Held) *policy.TaskView {
	return &policy.TaskView{
		Task: policy.Task{
			ID: taskID, Agent: "triage", Instance: sidecarOne,
			Life: policy.Life{State: policy.Active, Began: epoch, Activated: epoch, Until: epoch.Add(time.Hour)},
		},
		Held: held, Revision: 9,
	}
}

// world is an Index, a Credentials, a Recorder and a clock, all to be changed
// by the test. Tests change it only while no check runs, or in its hooks.
type world struct {
	mu        sync.Mutex
	cat       *policy.Catalog
	views     map[policy.TaskID]*policy.TaskView
	now       time.Time
	stale     bool
	headers   []credential.Header
	onFresh   func()
	onApply   func() error
	onRecord  func(audit.Decision) error
	onUse     func(*policy.Held, policy.UseRequest) policy.Spending // nil: nothing may be used
	ends      chan policy.CallEnd
	decisions []audit.Decision
	outcomes  []audit.Outcome
}

func newWorld(t testing.TB) *world {
	t.Helper()
	cat := catalog(t)
	return &world{
		cat: cat, now: epoch.Add(time.Minute),
		views:   map[policy.TaskID]*policy.TaskView{taskID: task(held(t, cat, grantID, "read-ticket"))},
		headers: []credential.Header{{Name: "authorization", Value: policy.NewSecret(minted)}},
	}
}

func (w *world) Fresh(context.Context) bool {
	if w.onFresh != nil {
		w.onFresh()
	}
	return !w.stale
}

func (w *world) Begin() store.Check                     { return store.Check{} }
func (w *world) Catalog() *policy.Catalog               { return w.cat }
func (w *world) Task(id policy.TaskID) *policy.TaskView { return w.views[id] }
func (w *world) Revision() int64                        { return 11 }

func (w *world) Apply(context.Context, *policy.Held, *policy.Call) ([]credential.Header, error) {
	if w.onApply != nil {
		if err := w.onApply(); err != nil {
			return nil, err
		}
	}
	return w.headers, nil
}

func (w *world) Decision(_ context.Context, d audit.Decision) error {
	if w.onRecord != nil {
		if err := w.onRecord(d); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.decisions = append(w.decisions, d)
	return nil
}

func (w *world) Consume(_ context.Context, h *policy.Held, u policy.UseRequest) policy.Spending {
	if w.onUse == nil {
		return policy.Spending{}
	}
	return w.onUse(h, u)
}

func (w *world) Settle(_ context.Context, _ *policy.Held, use string, end policy.CallEnd) error {
	if use != "" {
		w.ends <- end
	}
	return nil
}

func (w *world) Outcome(_ context.Context, o audit.Outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outcomes = append(w.outcomes, o)
}

// server is the Server over this world, called by peer.
func (w *world) server(t testing.TB, peer string) *Server {
	t.Helper()
	s, err := New(Config{
		Index: w, Now: func() time.Time { return w.now }, Credentials: w, Consumer: w, Audit: w,
		Registry: prometheus.NewRegistry(), Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if peer != "" {
		id, err := identity.ParseID(peer)
		if err != nil {
			t.Fatal(err)
		}
		s.peer = func(context.Context) (identity.ID, error) { return id, nil }
	}
	return s
}

// one gives the only grant of the world's task.
func (w *world) one() *policy.Held { return w.views[taskID].Held[0] }

// change replaces the only grant by a changed copy, as the index does.
func (w *world) change(fn func(*policy.Held)) {
	h := *w.one()
	fn(&h)
	w.views[taskID] = &policy.TaskView{Task: w.views[taskID].Task, Held: []*policy.Held{&h}, Revision: 12}
}

// get is the CheckRequest of a call that the world's grant covers, as Envoy
// sends it, with more headers: "name: value" each.
func get(headers ...string) *authv3.CheckRequest {
	return checkRequest("GET", "https", "tickets.example.org", "/v1/tickets/OPS-42", headers...)
}

func checkRequest(method, scheme, host, path string, more ...string) *authv3.CheckRequest {
	h := &authv3.AttributeContext_HttpRequest{
		Id: "1", Method: method, Scheme: scheme, Host: host, Path: path, Protocol: "HTTP/2",
		HeaderMap: &corev3.HeaderMap{},
	}
	add := func(name, value string) {
		h.HeaderMap.Headers = append(h.HeaderMap.Headers, &corev3.HeaderValue{Key: name, RawValue: []byte(value)})
	}
	for _, p := range [][2]string{{":authority", host}, {":path", path}, {":method", method}, {":scheme", scheme}} {
		add(p[0], p[1])
	}
	for _, line := range more {
		name, value, _ := strings.Cut(line, ": ")
		add(name, value)
	}
	add("x-forwarded-proto", scheme)
	add("x-request-id", "e905d206-39b6-4449-a239-dc1bb73e8adf")
	r := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request: &authv3.AttributeContext_Request{Time: timestamppb.New(epoch.Add(time.Minute)), Http: h},
		ContextExtensions: map[string]string{
			policy.ExtensionTask: string(taskID), policy.ExtensionAgent: "triage", policy.ExtensionDestination: "tickets",
		},
	}}
	if scheme == "https" {
		r.Attributes.TlsSession = &authv3.AttributeContext_TLSSession{Sni: host}
	}
	return r
}
