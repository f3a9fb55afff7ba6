package proxy

import (
	"context"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/oklog/ulid/v2"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/identity"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
)

const leak = `package exeat.call

allow := true

deny contains "confidential data was read: nothing goes to the outside" if {
	input.history.highestSensitivity == "confidential"
	input.grant.destination == "wiki"
}
`

// replica is an authz replica over its own index of one store.
type replica struct {
	*Server
	store *store.Store
}

func replicas(t *testing.T, n int) []replica {
	t.Helper()
	set := catalogSet()
	set.Policies = []v1alpha1.PolicyModule{{Path: "policies/call.rego", Source: leak}}
	get := v1alpha1.CallRule{Method: "GET", Path: "/v1/tickets/${ticket}"}
	secret, open := capabilityOf("read-secret", "tickets", get), capabilityOf("read-wiki", "wiki", get)
	secret.Spec.Sensitivity, open.Spec.Sensitivity = v1alpha1.SensitivityConfidential, v1alpha1.SensitivityPublic
	set.Capabilities = append(set.Capabilities, secret, open)
	set.Agents[0].Spec.Capabilities = append(set.Agents[0].Spec.Capabilities,
		v1alpha1.AgentCapability{Name: "read-secret"}, v1alpha1.AgentCapability{Name: "read-wiki"})
	var out []replica
	id, err := identity.ParseID(sidecarOne)
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range storetest.Cluster(t, n) {
		storetest.Publish(t, st, set)
		leave, err := st.JoinReplica(t.Context(), "authz")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(leave)
		w := newWorld(t)
		s := w.server(t, "")
		s.index, s.now, s.touches = st.Index(), st.Now, st
		s.peer = func(context.Context) (identity.ID, error) { return id, nil }
		out = append(out, replica{s, st})
	}
	return out
}

// granted is a task with a grant of each capability, known to every replica.
func granted(t *testing.T, all []replica) policy.TaskID {
	t.Helper()
	st := all[0].store
	now := st.Now()
	life := policy.Life{State: policy.Active, Began: now, Activated: now, Until: now.Add(time.Hour)}
	task := policy.Task{ID: policy.TaskID("t_" + ulid.Make().String()), Agent: "triage", Instance: sidecarOne, Life: life, Credential: policy.NewSecret("x")}
	_, err := st.CreateTask(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	var rev int64
	for _, name := range []string{"read-secret", "read-wiki"} {
		params := map[string]string{"ticket": "OPS-42"}
		r, err := st.Index().Catalog().Resolve("triage", name, params)
		if err != nil {
			t.Fatal(err)
		}
		g := policy.Grant{ID: policy.GrantID("g_" + ulid.Make().String()), Task: task.ID, Agent: "triage", Owner: []string{"support"}, Instance: sidecarOne,
			Capability: name, Params: params, Destination: r.Destination.Name, Life: life, Digest: r.Digest, Catalog: st.Index().Catalog().Revision()}
		if rev, err = st.CreateGrants(t.Context(), st.Index().Revision(), g); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range all {
		storetest.Await(t, r.store, rev)
	}
	return task.ID
}

// allows asks a replica about a call of the task to a host.
func (r replica) allows(t *testing.T, task policy.TaskID, host, destination string) bool {
	t.Helper()
	req := checkRequest("GET", "https", host, "/v1/tickets/OPS-42")
	req.Attributes.Request.Time = nil
	req.Attributes.ContextExtensions = map[string]string{
		policy.ExtensionTask: string(task), policy.ExtensionAgent: "triage", policy.ExtensionDestination: destination,
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	resp, err := r.Check(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetOkResponse() != nil
}

var _ authv3.AuthorizationServer = replica{}

// Once one replica let the read of confidential data out, no other lets the
// task call the outside, however soon it is asked: also where the task had
// called there before.
func TestNoReplicaForgetsWhatATaskHasRead(t *testing.T) {
	t.Parallel()
	all := replicas(t, 2)
	for i := range 12 {
		task := granted(t, all)
		a, b := all[i%2], all[(i+1)%2]
		if i%3 == 0 && !b.allows(t, task, "wiki.example.org", "wiki") {
			t.Fatal("before anything was read")
		}
		if !a.allows(t, task, "tickets.example.org", "tickets") {
			t.Fatal("the read itself is denied")
		}
		if b.allows(t, task, "wiki.example.org", "wiki") {
			t.Fatal("the other replica lets it out")
		}
		if !b.allows(t, task, "tickets.example.org", "tickets") {
			t.Fatal("reading on is denied")
		}
	}
}
