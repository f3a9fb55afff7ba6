package attack

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/test/stack"
)

// The agent names one host in TLS and another one in the request, where it holds
// a grant for both, for the one or for the other alone. The defence: one
// connection is for one host, whose chain has no route to any other, and the
// decision compares the names besides.
func TestTheAgentSaysOneHostAndMeansAnother(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "read-item")
	malformed := refused{http.StatusBadRequest, "malformed_call"}
	pairs := []struct {
		sni, authority string
		want           refused
	}{
		{mirrorHost, otherHost, malformed},
		{otherHost, mirrorHost, malformed},
		{mirrorHost, "nowhere.example.org", malformed},
		{"nowhere.example.org", mirrorHost, malformed},
		{mirrorHost, "exeat.internal", malformed},
		{mirrorHost, "x." + mirrorHost, malformed},
		{"x." + mirrorHost, mirrorHost, malformed},
		{"", mirrorHost, refused{http.StatusServiceUnavailable, "state_stale"}}, // granted, and not served by that chain
		{"exeat.internal", mirrorHost, malformed},
	}
	for round := range 2 {
		if round == 1 {
			s.grant(t, "read-other") // and now both may be called
		}
		for _, p := range pairs {
			t.Run(fmt.Sprintf("%d grants, %q in TLS, %q in the request", round+1, p.sni, p.authority), func(t *testing.T) {
				s.onlyControl(t, func() {
					p.want.check(t, stack.Exchange(s.task.Secure(t, mirrorHost, p.sni, "http/1.1"), http.MethodGet, get(p.authority, granted)))
					h2 := stack.NewH2(t, s.task.Secure(t, mirrorHost, p.sni, "h2"))
					p.want.check(t, h2.Do(stack.Message{Headers: stack.Request(http.MethodGet, "https", p.authority, granted)}))
				})
			})
		}
	}
	t.Run("a connection that is shared", func(t *testing.T) {
		// What is right, then another host on the same connection, as clients do
		// that share them (RFC 9113 section 9.1.1), then what is right again.
		h2 := stack.NewH2(t, s.task.Secure(t, mirrorHost, mirrorHost, "h2"))
		right := stack.Message{Headers: stack.Request(http.MethodGet, "https", mirrorHost, granted)}
		stack.WantOK(t, h2.Do(right))
		s.onlyControl(t, func() {
			for range 3 {
				malformed.check(t, h2.Do(stack.Message{Headers: stack.Request(http.MethodGet, "https", otherHost, granted)}))
			}
		})
		stack.WantOK(t, h2.Do(right))
		one := s.task.Secure(t, mirrorHost, mirrorHost, "http/1.1")
		stack.WantOK(t, stack.Exchange(one, http.MethodGet, get(mirrorHost, granted)))
		s.onlyControl(t, func() {
			malformed.check(t, stack.Exchange(one, http.MethodGet, get(otherHost, granted)))
		})
	})
	t.Run("a tunnel to another host", func(t *testing.T) {
		// What CONNECT says is not believed either way: the tunnel leads into the
		// room, and TLS says where to.
		before := len(s.mirror.Seen())
		stack.WantOK(t, stack.Exchange(s.task.Secure(t, otherHost, mirrorHost, "http/1.1"), http.MethodGet, get(mirrorHost, granted)))
		if seen := s.mirror.Seen()[before:]; len(seen) != 1 || seen[0].Host != mirrorHost {
			t.Errorf("the upstream saw %+v", seen)
		}
	})
}

// Forms of an authority that another reader may take for the granted one, or
// for one that was never meant to be reached. The defence: whatever is not the
// plain name is refused.
func TestTheAgentWritesAnAuthorityInAnotherForm(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "read-item")
	malformed := refused{http.StatusBadRequest, "malformed_call"}
	for _, authority := range []string{
		"user@" + mirrorHost, "user:pass@" + mirrorHost, mirrorHost + "@" + otherHost, otherHost + "#@" + mirrorHost, mirrorHost + ".",
		mirrorHost + ":443.", mirrorHost + ":0443", mirrorHost + ":", mirrorHost + ":+443", mirrorHost + ":443:443", mirrorHost + "%00",
		mirrorHost + "%2e", "%6dirror.example.org", mirrorHost + "\\", mirrorHost + "/", mirrorHost + "," + mirrorHost, mirrorHost + " " + otherHost,
		"mirror。example。org", "mırror.example.org", "xn--mrror-n4a.example.org", "mirror.example.org\u200b", "[" + mirrorHost + "]",
		"127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "[::1]", "[::ffff:127.0.0.1]", "127.0.0.1:" + portOf(s.mirror.Address),
		"169.254.169.254", "2852039166", "localhost", "localhost:" + portOf(s.Endpoints.GRPC), "exeat.internal", "",
	} {
		t.Run(strings.ReplaceAll(authority, "/", "_"), func(t *testing.T) {
			s.onlyControl(t, func() {
				r := stack.Exchange(s.task.Secure(t, mirrorHost, mirrorHost, "http/1.1"), http.MethodGet, get(authority, granted))
				if r.Status != http.StatusBadRequest {
					malformed.check(t, r)
				}
				h2 := stack.NewH2(t, s.task.Secure(t, mirrorHost, mirrorHost, "h2"))
				r = h2.Do(stack.Message{Headers: stack.Request(http.MethodGet, "https", authority, granted)})
				if r.Err == nil && r.Status != http.StatusBadRequest {
					malformed.check(t, r)
				}
			})
		})
	}
	t.Run("absolute form", func(t *testing.T) {
		line := func(target, host string) string { return "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n" }
		for _, q := range []struct {
			request string
			want    refused
		}{
			{line("https://"+otherHost+granted, mirrorHost), malformed},
			{line("http://"+otherHost+granted, mirrorHost), malformed},
			{line("http://user@"+mirrorHost+granted, mirrorHost), malformed},
			{line("https://"+mirrorHost+"/v1/items/OPS-43", mirrorHost), refused{http.StatusForbidden, "call_not_granted"}},
			{line("//"+otherHost+granted, mirrorHost), malformed},
			{line("@"+otherHost+granted, mirrorHost), refused{http.StatusBadRequest, ""}},
			{line("file://"+granted, mirrorHost), refused{http.StatusBadRequest, ""}},
			{line("*", mirrorHost), refused{http.StatusBadRequest, ""}},
			{line(mirrorHost+":443", mirrorHost), refused{http.StatusBadRequest, ""}},
		} {
			s.onlyControl(t, func() {
				r := stack.Exchange(s.task.Secure(t, mirrorHost, mirrorHost, "http/1.1"), http.MethodGet, q.request)
				q.want.check(t, r)
			})
		}
	})
	t.Run("another port", func(t *testing.T) {
		for _, port := range []string{":80", ":8443", ":1", ":65535", ":" + portOf(s.mirror.Address)} {
			s.onlyControl(t, func() {
				refused{http.StatusForbidden, "unknown_destination"}.check(t,
					stack.Exchange(s.task.Secure(t, mirrorHost, mirrorHost, "http/1.1"), http.MethodGet, get(mirrorHost+port, granted)))
			})
		}
	})
	t.Run("what is right in another form", func(t *testing.T) {
		for request, host := range map[string]string{
			get(mirrorHost+":443", granted): mirrorHost + ":443", get(strings.ToUpper(mirrorHost), granted): strings.ToUpper(mirrorHost),
			// The target is what counts (RFC 9112 section 3.2.2), and nobody's name is in it.
			get(otherHost, "https://"+mirrorHost+granted):           mirrorHost,
			get(otherHost, "https://user:pass@"+mirrorHost+granted): mirrorHost,
		} {
			before := len(s.mirror.Seen())
			stack.WantOK(t, stack.Exchange(s.task.Secure(t, mirrorHost, mirrorHost, "http/1.1"), http.MethodGet, request))
			if seen := s.mirror.Seen()[before:]; len(seen) != 1 || seen[0].Target != granted || seen[0].Host != host {
				t.Errorf("%q: the upstream saw %+v", request, seen)
			}
		}
	})
}

func portOf(address string) string { return address[strings.LastIndex(address, ":")+1:] }
