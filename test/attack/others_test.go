package attack

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/test/stack"
)

// Another's credential and another's grant are tried at a sidecar that is not
// theirs. The defence: a room is the instance's own, a task's grants are looked
// for in the caller's task alone, and what is another's looks like nothing.
func TestAnotherTakesATasksCredentialAndGrant(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	grant := s.grant(t, "read-item")
	stack.WantOK(t, stack.Get(t, s.task.HTTP(t), itemAt(s.mirror)))

	colleague := s.Sidecar(t, "mallory") // the same agent's other instance
	stranger := s.Sidecar(t, "triage")
	for name, sc := range map[string]*stack.Sidecar{"another instance": colleague, "another agent": stranger} {
		t.Run("the proxy credential at "+name, func(t *testing.T) {
			stolen := &stack.Task{Task: s.task.Task, Sidecar: sc}
			s.onlyControl(t, func() {
				// Once with no room of its own there, once with one.
				_, r := stolen.Connect(t, mirrorHost+":443")
				refused{http.StatusProxyAuthRequired, "unknown_task"}.check(t, r)
				own := sc.Task(t)
				_, r = stolen.Connect(t, mirrorHost+":443")
				refused{http.StatusProxyAuthRequired, "unknown_task"}.check(t, r)
				// Two at once are neither.
				r = stack.Exchange(stack.Dial(t, sc.Proxy), http.MethodConnect, fmt.Sprintf(
					"CONNECT %s:443 HTTP/1.1\r\nHost: %s:443\r\nProxy-Authorization: %s\r\nProxy-Authorization: %s\r\n\r\n",
					mirrorHost, mirrorHost, own.ProxyAuthorization(), stolen.ProxyAuthorization()))
				refused{http.StatusProxyAuthRequired, "unknown_task"}.check(t, r)
			})
		})
		t.Run("the API at "+name, func(t *testing.T) { s.foreign(t, sc, grant.ID) })
	}
	t.Run("the proxy credential, nearly", func(t *testing.T) {
		for _, value := range nearly(s.task) {
			r := stack.Exchange(stack.Dial(t, s.sidecar.Proxy), http.MethodConnect,
				"CONNECT "+mirrorHost+":443 HTTP/1.1\r\nHost: "+mirrorHost+":443\r\n"+value+"\r\n")
			refused{http.StatusProxyAuthRequired, "unknown_task"}.check(t, r)
		}
	})
	t.Run("the grant's ID", func(t *testing.T) {
		named := func(r *http.Request) { r.Header.Set("Exeat-Grant", grant.ID) }
		stack.WantOK(t, stack.Get(t, s.task.HTTP(t), itemAt(s.mirror), named)) // where it is one's own
		for name, task := range map[string]*stack.Task{
			"another task of the instance": s.sidecar.Task(t), "another instance": colleague.Task(t), "another agent": stranger.Task(t),
		} {
			s.onlyControl(t, func() {
				stack.WantDenied(t, stack.Get(t, task.HTTP(t), itemAt(s.mirror), named), "no_grant")
			})
			if name == "another agent" {
				continue // it may not have one of its own
			}
			// Nor does it lend itself to a call that another grant allows.
			task.Grant(t, "read-item", 0, "item", "OPS-42")
			s.onlyControl(t, func() {
				stack.WantDenied(t, stack.Get(t, task.HTTP(t), itemAt(s.mirror), named), "no_grant")
			})
		}
	})
}

// nearly are header lines that are almost the task's own.
func nearly(k *stack.Task) []string {
	right := k.ProxyAuthorization()
	return []string{
		"", // none
		"Authorization: " + right + "\r\n",
		"Proxy-Authorization: " + strings.ToLower(right) + "\r\n",
		"Proxy-Authorization: " + right + "x\r\n",
		"Proxy-Authorization: " + right[:len(right)-4] + "\r\n",
		"Proxy-Authorization: Basic  " + right[len("Basic "):] + "\r\n",
		"Proxy-Authorization: " + right + ", " + right + "\r\n",
		"Proxy-Authorization: " + right + "\r\nProxy-Authorization: " + right + "\r\n",
		"Proxy-Authorization: Basic\r\nProxy-Authorization: " + right + "\r\n",
		"Proxy_Authorization: " + right + "\r\n",
	}
}

// foreign does all that the API can do to a task and a grant, at a sidecar that
// they are not of, and compares each answer with that about one that never was.
func (s *scene) foreign(t *testing.T, sc *stack.Sidecar, grant string) {
	t.Helper()
	const noTask, noGrant = "t_01ARZ3NDEKTSV4RRFFQ69G5FAV", "g_01ARZ3NDEKTSV4RRFFQ69G5FAV"
	host := strings.TrimPrefix(sc.Status.API, "http://")
	send := func(method, path, body string) string {
		r := stack.Exchange(stack.Dial(t, host), method, fmt.Sprintf(
			"%s %s HTTP/1.1\r\nHost: %s\r\nExeat-Task: %s\r\nExeat-Task-Credential: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			method, path, host, s.task.ID, s.task.Credential.Expose(), len(body), body))
		if r.Err != nil || r.Status != http.StatusNotFound {
			t.Errorf("%s %s: answered %d %s %v, want 404", method, path, r.Status, r.Body, r.Err)
		}
		r.Header.Del("Date")
		return ids.ReplaceAllString(fmt.Sprint(r.Status, r.Header, string(r.Body)), "ID")
	}
	ask, err := json.Marshal(map[string]any{"task": s.task.ID, "capability": "read-item", "params": map[string]string{"item": "OPS-42"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []struct{ method, path, body string }{
		{"GET", "/v1/tasks/" + s.task.ID, ""}, {"POST", "/v1/tasks/" + s.task.ID + "/complete", ""}, {"POST", "/v1/tasks/" + s.task.ID + "/fail", "{}"},
		{"GET", "/v1/tasks/" + s.task.ID + "/receipt", ""}, {"GET", "/v1/tasks/" + s.task.ID + "/denials", ""},
		{"GET", "/v1/grants/" + grant, ""}, {"GET", "/v1/grants/" + grant + "?wait=10s", ""}, {"POST", "/v1/grants/" + grant + "/end", ""},
		{"POST", "/v1/grants", string(ask)},
	} {
		missing := strings.NewReplacer(s.task.ID, noTask, grant, noGrant)
		if there, not := send(q.method, q.path, q.body), send(q.method, missing.Replace(q.path), missing.Replace(q.body)); there != not {
			t.Errorf("%s %s: another's is answered\n%s\nand what is not there\n%s", q.method, q.path, there, not)
		}
	}
	// The operator's are not an agent's, whosever the task is.
	for _, path := range []string{"/v1/tasks/" + s.task.ID + "/revoke", "/v1/grants/" + grant + "/revoke"} {
		for _, at := range []*stack.Sidecar{sc, s.sidecar} {
			host := strings.TrimPrefix(at.Status.API, "http://")
			r := stack.Exchange(stack.Dial(t, host), "POST", fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nExeat-Task-Credential: %s\r\nContent-Length: 0\r\n\r\n",
				path, host, s.task.Credential.Expose()))
			if r.Status != http.StatusForbidden && r.Status != http.StatusNotFound {
				t.Errorf("%s: answered %d %s", path, r.Status, r.Body)
			}
		}
	}
	// What it was all about is as it was.
	got, err := s.task.API.GetGrant(context.Background(), grant, 0)
	if err != nil || got.State != "active" {
		t.Errorf("the grant is %+v %v", got, err)
	}
	if tasks, err := sc.API.Tasks(context.Background()); err != nil || strings.Contains(fmt.Sprint(tasks), s.task.ID) {
		t.Errorf("it is listed: %v %v", tasks, err)
	}
}

var ids = regexp.MustCompile(`[tgd]_[0-9A-Z]{26}`)
