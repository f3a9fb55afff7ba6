package attack

import (
	"net/http"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/test/stack"
)

// Targets that a server may read as another item than the granted one, or as
// the granted one although they are something else. The defence: a path that can
// be read in two ways is no call at all, and what goes out is what was decided on.
func TestTheAgentWritesAPathInAnotherForm(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "read-item")
	malformed := refused{http.StatusBadRequest, "malformed_call"}
	other := refused{http.StatusForbidden, "call_not_granted"}
	query := refused{http.StatusForbidden, "query_not_granted"}
	envoy := refused{http.StatusBadRequest, ""}
	for target, want := range map[string]refused{
		"/v1/items/OPS-43": other, "/v1/items/OPS-421": other, "/v1/items/OPS-4": other, "/v1/items/ops-42": other, "/V1/items/OPS-42": other,
		"/v1/items/OPS-42/": other, "/v1/items": other, "/": other, "/v1/items/OPS-42/x": other, "/v1/items/OPS-42%20": other, "/v1/items/OPS-42+": other,
		"/v1/items/../items/OPS-42": malformed, "/v1/items/OPS-42/../OPS-43": malformed, "/v1/items/./OPS-42": malformed, "/v1/items/OPS-42/.": malformed,
		"/v1/items/OPS-42/..": malformed, "/..": malformed, "/v1/items/%2e%2e/items/OPS-42": malformed, "/v1/items/OPS-42/%2E%2E/OPS-43": malformed,
		"/v1/items/.%2e/items/OPS-42": malformed, "/v1/items/%2e/OPS-42": malformed, "/v1/items/OPS-42%2f..%2fOPS-43": malformed, "/v1/items%2fOPS-42": malformed,
		"/v1%2Fitems/OPS-42": malformed, "/v1/items/OPS-42%5c..%5cOPS-43": malformed, "/v1/items/OPS-42\\..\\OPS-43": malformed, "/v1\\items/OPS-42": malformed,
		"//v1/items/OPS-42": malformed, "/v1//items/OPS-42": malformed, "/v1/items//OPS-42": malformed, "/v1/items/;/OPS-42": malformed,
		"/v1/items/OPS-42;a=b": malformed, "/v1/items/OPS-42;/../OPS-43": malformed, "/v1/items/..;/OPS-42": malformed, "/v1/items/OPS-42%3b": malformed,
		"/v1/items/OPS-42%00": malformed, "/v1/items/OPS-42%00.json": malformed, "/v1/items/OPS-42%0d%0aX:%20y": malformed, "/v1/items/OPS-42%0a": malformed,
		"/v1/items/OPS%252d42": malformed, "/v1/items/%252e%252e/OPS-42": malformed, "/v1/items/OPS-42%25": malformed, "/v1/items/OPS-42%": malformed,
		"/v1/items/OPS-42%2": malformed, "/v1/items/OPS-42%zz": malformed, "/v1/items/OPS-42%u002f": malformed, "/v1/items/%c0%ae%c0%ae/OPS-42": malformed,
		"/v1/items/OPS-42%c0%af..": malformed, "/v1/items/%e0%80%ae/OPS-42": malformed, "/v1/items/OPS-42%ff": malformed, "/v1/items/%ef%bc%8e%ef%bc%8e/OPS-42": malformed,
		"/v1/items/OPS-42%ef%bc%8f": malformed, "/v1/items/OPS-42%e2%80%8b": malformed, "/v1/items/OPS-42%c2%ad": malformed, "/v1/items/OPS-42%7f": malformed,
		"/v1/items/OPS-42#": envoy, "/v1/items/OPS-42#/OPS-43": envoy, "/v1/items/OPS-43#/../OPS-42": envoy, "/v1/items/OPS-42%23": other,
		"/v1/items/OPS-42?a=b": query, "/v1/items/OPS-42?../OPS-43": query, "/v1/items/OPS-42?/../OPS-43": query, "/v1/items/OPS-43?/v1/items/OPS-42": other,
		"/v1/items/OPS-42?a=b;c=d": malformed, "/v1/items/OPS-42?a=%00": malformed, "/v1/items/OPS-42?=": malformed, "/v1/items/OPS-42%3f": other,
		"/v1/items/OPS-42%3fa=b": other, "/v1/items/\"OPS-42\"": malformed, "/v1/items/<OPS-42>": malformed, "/v1/items/OPS-42|": malformed,
		"/v1/items/{OPS-42}": malformed, "/v1/items/OPS-42^": malformed, "/v1/items/OPS-42`": malformed, "v1/items/OPS-42": envoy, "": envoy,
		"/v1/items/OPS-42\x7f": envoy, "/v1/items/OPS-42\xff": envoy, "/v1/items/" + strings.Repeat("A", 9000): malformed,
		"/" + strings.Repeat("a/", 200): malformed, "/v1/items/OPS-42?" + strings.Repeat("a=b&", 300): malformed,
	} {
		name := strings.ReplaceAll(target, "/", "_")
		if len(name) > 40 {
			name = name[:40]
		}
		t.Run(name, func(t *testing.T) {
			s.onlyControl(t, func() {
				want.check(t, stack.Exchange(s.task.Secure(t, mirrorHost, mirrorHost, "http/1.1"), http.MethodGet, get(mirrorHost, target)))
				r := stack.NewH2(t, s.task.Secure(t, mirrorHost, mirrorHost, "h2")).Do(stack.Message{
					Headers: stack.Request(http.MethodGet, "https", mirrorHost, target),
				})
				if want == envoy {
					if r.Err == nil && r.Status < 400 {
						t.Errorf("HTTP/2: answered %d %s", r.Status, r.Body)
					}
					return
				}
				want.check(t, r)
			})
		})
	}
	// The granted item in forms that mean the same to everybody. What arrives is
	// what was sent, byte for byte.
	for _, target := range []string{"/v1/items/OPS-42", "/v1/items/OPS-42?", "/v1/items/OPS-42?&", "/v1/items/%4fPS-42", "/v1/items/OPS%2d42", "/v1/items/OPS-4%32", "/%761/items/OPS-42"} {
		t.Run("right: "+strings.ReplaceAll(target, "/", "_"), func(t *testing.T) {
			before := len(s.mirror.Seen())
			stack.WantOK(t, stack.Exchange(s.task.Secure(t, mirrorHost, mirrorHost, "http/1.1"), http.MethodGet, get(mirrorHost, target)))
			stack.WantOK(t, stack.NewH2(t, s.task.Secure(t, mirrorHost, mirrorHost, "h2")).Do(stack.Message{
				Headers: stack.Request(http.MethodGet, "https", mirrorHost, target),
			}))
			seen := s.mirror.Seen()[before:]
			if len(seen) != 2 || seen[0].Target != target || seen[1].Target != target {
				t.Errorf("the upstream saw %+v", seen)
			}
		})
	}
}

// The agent takes another method than the granted one, or the granted one in
// another spelling. The defence: methods are compared as they are, and those that
// reflect a request are never granted.
func TestTheAgentTakesAnotherMethod(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "read-item")
	malformed, other := refused{http.StatusBadRequest, "malformed_call"}, refused{http.StatusForbidden, "call_not_granted"}
	envoy := refused{http.StatusBadRequest, ""} // a method that it does not know
	for method, want := range map[string]refused{
		"TRACE": malformed, "trace": envoy, "Trace": envoy, "CONNECT": envoy, "connect": envoy, "get": envoy, "Get": envoy,
		"HEAD": other, "POST": other, "DELETE": other, "OPTIONS": other, "PATCH": other, "PROPFIND": other, "GETX": envoy, "TRACK": envoy,
		"DEBUG": envoy, "G ET": envoy, strings.Repeat("G", 40): envoy,
	} {
		t.Run(method, func(t *testing.T) {
			s.onlyControl(t, func() {
				r := stack.Exchange(s.task.Secure(t, mirrorHost, mirrorHost, "http/1.1"), method, method+" "+granted+" HTTP/1.1\r\nHost: "+mirrorHost+"\r\n\r\n")
				if method != "HEAD" { // it has no body to tell by
					want.check(t, r)
				}
				r = stack.NewH2(t, s.task.Secure(t, mirrorHost, mirrorHost, "h2")).Do(stack.Message{
					Headers: stack.Request(method, "https", mirrorHost, granted),
				})
				if r.Err == nil && r.Status < 400 {
					t.Errorf("HTTP/2: answered %d %s", r.Status, r.Body)
				}
			})
		})
	}
}
