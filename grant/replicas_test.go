package grant_test

import (
	"path/filepath"
	"testing"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
)

// pair is two services on two replicas of one store.
func pair(t *testing.T) [2]*world {
	t.Helper()
	var out [2]*world
	for i, st := range storetest.Cluster(t, 2) {
		w := &world{t: t, ctx: t.Context(), store: st}
		log, err := audit.Open(audit.Config{Dir: filepath.Join(t.TempDir(), "audit")})
		w.must(err)
		t.Cleanup(func() { w.must(log.Close()) })
		w.Service, err = grant.New(grant.Config{Store: st, Audit: log})
		w.must(err)
		w.join()
		t.Cleanup(w.leave)
		out[i] = w
	}
	out[0].publish(catalogJSON)
	out[1].publish(catalogJSON) // is in force already: waits until this one has it
	return out
}

func TestOneReplicaKnowsWhatTheOtherHasJustDone(t *testing.T) {
	t.Parallel()
	w := pair(t)
	task, c := w[0].task(triage1, 0)
	st, err := w[1].Request(t.Context(), c, grant.Request{Task: task.ID, Capability: "browse"}, 0)
	w[1].must(err)
	if st, err = w[0].Get(t.Context(), c, st.Grant.ID, 0); err != nil || st.Grant.State != policy.Active {
		t.Fatalf("got %+v, %v", st, err)
	}
	if _, _, err = w[1].End(t.Context(), c, st.Grant.ID); err != nil {
		t.Error(err)
	}
}

func TestReadyAndEnforcedAreAboutEveryReplica(t *testing.T) {
	t.Parallel()
	w := pair(t)
	task, c := w[0].task(triage1, 0)
	w[1].until(task.ID, func(v *policy.TaskView) bool { return v != nil })

	// The other replica holds back while an older check runs there.
	check := w[1].store.Index().Begin()
	st, err := w[0].Request(t.Context(), c, grant.Request{Task: task.ID, Capability: "browse"}, 0)
	w[0].must(err)
	if st.Ready || st.Waiting != grant.WaitReplicas {
		t.Fatalf("ready %v, waits for %q", st.Ready, st.Waiting)
	}
	check.Done()
	w[1].until(task.ID, func(v *policy.TaskView) bool { return find(v, st.Grant.ID) != nil })
	ack := store.InstanceAck{Instance: triage1, Ready: w[1].store.Index().Revision()}
	w[1].store.AckInstance(ack) // the sidecar is connected to the other one
	if st, err = w[0].Get(t.Context(), c, st.Grant.ID, long); err != nil || !st.Ready {
		t.Fatalf("got %+v, %v", st, err)
	}

	check = w[1].store.Index().Begin()
	done := make(chan grant.Ending, 1)
	go func() {
		_, e, err := w[0].End(t.Context(), c, st.Grant.ID)
		if err != nil {
			t.Error(err)
		}
		done <- e
	}()
	w[1].until(task.ID, func(v *policy.TaskView) bool { return find(v, st.Grant.ID).Grant.State == policy.Ended })
	ack.Cut = w[1].store.Index().Revision()
	w[1].store.AckInstance(ack)
	select {
	case e := <-done:
		t.Fatalf("enforced while the other replica had a check in flight: %+v", e)
	default:
	}
	check.Done()
	if e := <-done; e.Enforced.IsZero() {
		t.Fatalf("got %+v", e)
	}
}
