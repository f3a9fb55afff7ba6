package server_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/exeat-dev/exeat/server"
	"github.com/exeat-dev/exeat/server/servertest"
)

func TestAKeyedRequestIsDoneOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.As(servertest.Triage1)
	body := `{"type":"triage"}`
	var first, second server.StartedTask
	w.do(c, "POST", w.URL+"/v1/tasks", body, "Idempotency-Key", "k-1").into(t, 201, &first)
	a := w.do(c, "POST", w.URL+"/v1/tasks", body, "Idempotency-Key", `"k-1"`)
	a.into(t, 201, &second)
	if first.ID != second.ID || first.Credential != second.Credential || a.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("started %s and %s", first.ID, second.ID)
	}
	if a := w.do(c, "POST", w.URL+"/v1/tasks", `{"type":"other"}`, "Idempotency-Key", "k-1"); a.status != 422 || a.Code != "idempotency_key_reused" {
		t.Errorf("another request by the same key: %d %s", a.status, a.body)
	}
	var tasks struct{ Tasks []server.Task }
	w.do(c, "GET", w.URL+"/v1/tasks", "", "Idempotency-Key", "k-1").into(t, 200, &tasks)
	if len(tasks.Tasks) != 1 {
		t.Errorf("there are %d tasks", len(tasks.Tasks))
	}
	// A denial is an answer too.
	for range 2 {
		if a := w.do(c, "POST", w.URL+"/v1/tasks/"+first.ID+"/complete", "", "Idempotency-Key", "k-2"); a.status != 403 || a.Code != "task_credential_required" {
			t.Errorf("without a proof: %d %s", a.status, a.body)
		}
	}
}

func TestKeysAreEachCallersOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	seen := map[string]bool{}
	for _, who := range []string{servertest.Triage1, servertest.Triage2, servertest.Writer} {
		var task server.StartedTask
		w.do(w.As(who), "POST", w.URL+"/v1/tasks", `{"type":"x"}`, "Idempotency-Key", "same").into(t, 201, &task)
		seen[task.ID] = true
	}
	// One who acts in another task is another caller.
	task := w.task(w.As(servertest.Triage1))
	var inside server.StartedTask
	w.do(w.As(servertest.Triage1), "POST", w.URL+"/v1/tasks", `{"type":"x"}`, "Idempotency-Key", "same", "Exeat-Task", task.ID).into(t, 201, &inside)
	seen[inside.ID] = true
	if len(seen) != 4 {
		t.Errorf("%d tasks for 4 callers: somebody got another's credential", len(seen))
	}
}

func TestManyAttemptsAtOnceDoOneThing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.As(servertest.Triage1)
	var mu sync.Mutex
	codes := map[string]int{}
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			a := w.do(c, "POST", w.URL+"/v1/tasks", `{"type":"triage"}`, "Idempotency-Key", "race")
			mu.Lock()
			defer mu.Unlock()
			codes[a.Code]++
			if a.status != 201 && (a.status != 409 || a.Code != "attempt_running") {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	var tasks struct{ Tasks []server.Task }
	w.do(c, "GET", w.URL+"/v1/tasks", "").into(t, 200, &tasks)
	if len(tasks.Tasks) != 1 || codes[""] == 0 {
		t.Errorf("%d tasks; %v", len(tasks.Tasks), codes)
	}
}

func TestAKeyThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.As(servertest.Triage1)
	for _, keys := range [][]string{{`""`}, {"a b"}, {strings.Repeat("k", 129)}, {"one", "two"}, {"ü"}} {
		var headers []string
		for _, k := range keys {
			headers = append(headers, "Idempotency-Key", k)
		}
		if a := w.do(c, "POST", w.URL+"/v1/tasks", `{"type":"x"}`, headers...); a.status != 400 || a.Code != "malformed_header" {
			t.Errorf("%q: %d %s", keys, a.status, a.body)
		}
	}
}
