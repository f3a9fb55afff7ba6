package storetest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/oklog/ulid/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The fixtures' names.
const (
	Agent       = "triage"
	Owner       = "support-platform"
	SidecarID   = "spiffe://example.org/sidecar/triage/{instance}"
	Instance    = policy.Instance("spiffe://example.org/sidecar/triage/one")
	Destination = "tickets"
	Host        = "tickets.example.org"
	ReadTicket  = "read-ticket"
	EditTicket  = "edit-ticket"
)

// Set is a small catalog: an agent that may read and edit tickets, with
// credentials of our own issuer.
func Set() *v1alpha1.Set {
	return &v1alpha1.Set{
		Agents: []v1alpha1.Agent{{ObjectMeta: named(Agent), Spec: v1alpha1.AgentSpec{
			SPIFFEID: "spiffe://example.org/agent/triage", SidecarID: SidecarID,
			Owner:        v1alpha1.Owner{Groups: []string{Owner}, Contact: "support@example.org"},
			Capabilities: []v1alpha1.AgentCapability{{Name: ReadTicket}, {Name: EditTicket}},
		}}},
		Destinations: []v1alpha1.Destination{{ObjectMeta: named(Destination), Spec: v1alpha1.DestinationSpec{
			Hosts: []string{Host}, Port: 443,
		}}},
		Providers: []v1alpha1.Provider{{ObjectMeta: named("tickets-jwt"), Spec: v1alpha1.ProviderSpec{
			JWT: &v1alpha1.JWTProvider{Audience: "https://tickets.example.org"},
		}}},
		Capabilities: []v1alpha1.Capability{capability(ReadTicket, "GET", "ticket:read"), capability(EditTicket, "POST", "ticket:write")},
	}
}

func capability(name, method, scope string) v1alpha1.Capability {
	return v1alpha1.Capability{ObjectMeta: named(name), Spec: v1alpha1.CapabilitySpec{
		Params:      map[string]v1alpha1.Param{"ticket": {Pattern: "[A-Z]{2,5}-[0-9]+"}},
		Destination: Destination,
		Calls:       []v1alpha1.CallRule{{Method: method, Path: "/v1/tickets/${ticket}"}},
		Credential:  &v1alpha1.CredentialRef{Provider: "tickets-jwt", Scope: map[string]string{"scope": scope, "ticket": "${ticket}"}},
		Limits:      v1alpha1.Limits{MaxTTL: &metav1.Duration{Duration: time.Hour}},
	}}
}

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

// Publish makes set the catalog in force and waits until the store's index
// shows it.
func Publish(t testing.TB, s *store.Store, set *v1alpha1.Set) *policy.Catalog {
	t.Helper()
	source, err := policy.EncodeSet(set)
	if err != nil {
		t.Fatal(err)
	}
	rev, err := s.PublishCatalog(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	Await(t, s, rev)
	return s.Index().Catalog()
}

// Await waits until the store's index shows rev.
func Await(t testing.TB, s *store.Store, rev int64) {
	t.Helper()
	sub := s.Index().Subscribe()
	defer sub.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for s.Index().Revision() < rev {
		if _, err := sub.Next(ctx); err != nil {
			t.Fatalf("the index did not come to revision %d: %v", rev, err)
		}
	}
}

// NewTask is an active task of the fixture's agent, not yet in a store.
func NewTask(now time.Time) policy.Task {
	return policy.Task{
		ID: policy.TaskID("t_" + ulid.Make().String()), Agent: Agent, Instance: Instance, Type: "triage",
		StartedBy:  "spiffe://example.org/agent/triage",
		Life:       policy.Life{State: policy.Active, Began: now, Activated: now, Until: now.Add(time.Hour)},
		Credential: policy.NewSecret(strings.ToLower(ulid.Make().String()) + "-task-credential"),
	}
}

// Task creates an active task and waits until the store's index shows it.
func Task(t testing.TB, s *store.Store) policy.Task {
	t.Helper()
	task := NewTask(s.Now())
	rev, err := s.CreateTask(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	Await(t, s, rev)
	return task
}

// NewGrant is an active grant of a capability for a ticket, under the catalog
// in force, not yet in a store.
func NewGrant(t testing.TB, s *store.Store, task policy.Task, capability, ticket string) policy.Grant {
	t.Helper()
	cat, params, now := s.Index().Catalog(), map[string]string{"ticket": ticket}, s.Now()
	r, err := cat.Resolve(task.Agent, capability, params)
	if err != nil {
		t.Fatal(err)
	}
	return policy.Grant{
		ID: policy.GrantID("g_" + ulid.Make().String()), Task: task.ID, Agent: task.Agent, Owner: []string{Owner},
		Instance: task.Instance, Capability: capability, Params: params, Destination: r.Destination.Name,
		Life:   policy.Life{State: policy.Active, Began: now, Activated: now, Until: now.Add(5 * time.Minute)},
		Digest: r.Digest, Catalog: cat.Revision(),
	}
}

// Grant creates an active grant and waits until the store's index shows it.
func Grant(t testing.TB, s *store.Store, task policy.Task, capability, ticket string) policy.Grant {
	t.Helper()
	g := NewGrant(t, s, task, capability, ticket)
	rev, err := s.CreateGrants(t.Context(), s.Index().Revision(), g)
	if err != nil {
		t.Fatal(err)
	}
	Await(t, s, rev)
	return g
}
