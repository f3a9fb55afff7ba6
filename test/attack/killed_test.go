package attack

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/exeat-dev/exeat/test/stack"
)

// caller makes one call again and again.
type caller struct {
	name   string
	status int // of the answer while all is well
	client *http.Client
	target string
}

// attempt is one call. Its tag goes along in a header that arrives.
type attempt struct {
	tag   string
	after bool // it was begun after exeatd was gone
	reply stack.Reply
}

// callers are the ways to call, allowed and not.
func (s *scene) callers(t *testing.T) []caller {
	t.Helper()
	one, each := s.task.HTTP(t), s.task.HTTP(t)
	one.Transport.(*http.Transport).ForceAttemptHTTP2 = false
	each.Transport.(*http.Transport).DisableKeepAlives = true
	return []caller{
		{"granted, on one connection of HTTP/1.1", 200, one, itemAt(s.mirror)},
		{"granted, on one connection of HTTP/2", 200, s.task.HTTP(t), itemAt(s.mirror)},
		{"granted, on a connection for each call", 200, each, itemAt(s.other)},
		{"never granted", 403, s.task.HTTP(t), "https://" + mirrorHost + "/v1/items/OPS-43"},
		{"granted once", 403, s.task.HTTP(t), "https://" + mirrorHost + follow},
		{"in clear text", 403, s.task.HTTP(t), "http://" + mirrorHost + granted},
	}
}

func (c caller) call(t *testing.T, tag string) stack.Reply {
	t.Helper()
	return stack.Get(t, c.client, c.target, func(r *http.Request) { r.Header.Set("X-Item-Version", tag) })
}

// undecided wants the answer to a call that nobody decided on.
func undecided(t *testing.T, what string, r stack.Reply, reasons ...string) {
	t.Helper()
	d := r.Denial()
	for _, reason := range reasons {
		if r.Err == nil && r.Status == http.StatusServiceUnavailable && d.Reason == reason && d.Status == r.Status && d.Retry == "after" &&
			r.Header.Get("Content-Type") == "application/problem+json" {
			return
		}
	}
	t.Errorf("%s: answered %d %s %v, want a denial with status 503 and a reason of %v", what, r.Status, r.Body, r.Err, reasons)
}

// exeatd is killed while calls are on their way. The defence: no answer is a no.
// What was allowed goes its way, nothing begun later does, and each is told so;
// what was ended before is still ended when exeatd is back.
func TestExeatdIsKilledDuringCalls(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "read-item")
	s.grant(t, "read-other")
	if _, err := s.task.API.EndGrant(stack.Context(t), s.grant(t, "follow-item").ID); err != nil {
		t.Fatal(err)
	}
	callers := s.callers(t)
	for round := range 2 {
		s.killDuring(t, round, callers)
		refused{http.StatusServiceUnavailable, "state_stale"}.check(t, s.capabilities(t))
		if err := s.StartExeatd(stack.Context(t)); err != nil {
			t.Fatal(err)
		}
		for _, c := range callers {
			stack.Await(t, "calls "+c.name, func() bool {
				r := c.call(t, "back")
				if r.Status != c.status {
					undecided(t, "exeatd is starting, "+c.name, r, "internal", "state_stale")
				}
				return r.Status == c.status || t.Failed()
			})
		}
		stack.WantOK(t, s.capabilities(t))
	}
}

// capabilities asks the API by EXEAT_URL.
func (s *scene) capabilities(t *testing.T) stack.Reply {
	t.Helper()
	return stack.Get(t, http.DefaultClient, s.sidecar.Status.API+"/v1/capabilities")
}

// killDuring kills exeatd once all callers are at work, and has each of them call
// on for a while.
func (s *scene) killDuring(t *testing.T, round int, callers []caller) {
	t.Helper()
	const before, after = 5, 20
	var working, done sync.WaitGroup
	var gone atomic.Bool
	attempts := make([][]attempt, len(callers))
	working.Add(len(callers))
	for i, c := range callers {
		done.Go(func() {
			for later := 0; later < after && len(attempts[i]) < 100*1000; {
				a := attempt{tag: fmt.Sprint(round, "-", i, "-", len(attempts[i])), after: gone.Load()}
				a.reply = c.call(t, a.tag)
				if attempts[i] = append(attempts[i], a); len(attempts[i]) == before {
					working.Done()
				}
				if a.after {
					later++
				}
			}
		})
	}
	working.Wait()
	if err := s.KillExeatd(); err != nil {
		t.Error(err)
	}
	gone.Store(true)
	done.Wait()

	arrived := map[string]bool{}
	for _, m := range []*stack.Mirror{s.mirror, s.other} {
		for _, seen := range m.Seen() {
			arrived[seen.Header.Get("X-Item-Version")] = true
		}
	}
	for i, c := range callers {
		for _, a := range attempts[i] {
			if a.after && arrived[a.tag] {
				t.Errorf("%s: reached the upstream after exeatd was gone", c.name)
			}
			if a.after || a.reply.Status != c.status {
				undecided(t, c.name, a.reply, "internal")
			}
			if a.reply.Status == http.StatusOK && !arrived[a.tag] {
				t.Errorf("%s: %s did not arrive where it was answered", c.name, a.tag)
			}
		}
	}
}

// exeatd stands still in the midst of everything. The defence: a Check has its
// time, and an answer that comes later is none: nothing is sent after all.
func TestExeatdStandsStillDuringCalls(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "read-item")
	callers := s.callers(t)[:2]
	for _, c := range callers {
		stack.WantOK(t, c.call(t, "control"))
	}
	thaw := stack.Freeze(t, s.PID())
	for _, c := range callers {
		undecided(t, c.name, c.call(t, "late"), "internal")
	}
	thaw()
	for _, c := range callers { // what it knows is old at first
		stack.Await(t, "calls "+c.name, func() bool { return c.call(t, "control").Status == c.status })
	}
	if slices.ContainsFunc(s.mirror.Seen(), func(a stack.Arrival) bool { return a.Header.Get("X-Item-Version") == "late" }) {
		t.Error("what was answered by no reached the upstream")
	}
}

// impostor answers yes to every Check, at exeatd's own address.
type impostor struct {
	authv3.UnimplementedAuthorizationServer
	net.Listener
	conns, checks atomic.Int64
}

func (i *impostor) Accept() (net.Conn, error) {
	c, err := i.Listener.Accept()
	if err == nil {
		i.conns.Add(1)
	}
	return c, err
}

// Check implements authv3.AuthorizationServer.
func (i *impostor) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	i.checks.Add(1)
	return &authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
		Headers: []*corev3.HeaderValueOption{{
			Header:       &corev3.HeaderValue{Key: "grpc-timeout", Value: "5000m"},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}},
	}}}, nil
}

// serve takes exeatd's place until stop is called.
func (s *scene) serve(t *testing.T, creds credentials.TransportCredentials) (i *impostor, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", s.Endpoints.GRPC)
	if err != nil {
		t.Fatal(err)
	}
	i = &impostor{Listener: l}
	server := grpc.NewServer(grpc.Creds(creds))
	authv3.RegisterAuthorizationServer(server, i)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(i) // until it is stopped
	}()
	return i, func() { server.Stop(); <-done }
}

// serverTLS shows an SVID of this identity, as a server.
func (s *scene) serverTLS(t *testing.T, id string) credentials.TransportCredentials {
	t.Helper()
	svid, err := s.Authority(t).Source(stack.ID(t, id), nil, nil).GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	cert := tls.Certificate{PrivateKey: svid.PrivateKey}
	for _, c := range svid.Certificates {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13})
}

// While exeatd is down, the agent listens where it did and says yes to all. The
// defence: the sidecar believes one identity alone, and another one that the same
// authority vouches for is not it.
func TestTheAgentTakesTheJudgesPlace(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "read-item")
	judge := "spiffe://" + s.Endpoints.TrustDomain + "/exeat/grpc"
	stack.WantOK(t, stack.Get(t, s.task.HTTP(t), itemAt(s.mirror)))
	if err := s.KillExeatd(); err != nil {
		t.Fatal(err)
	}
	before := len(s.mirror.Seen())
	for name, creds := range map[string]credentials.TransportCredentials{
		"without TLS":                   insecure.NewCredentials(),
		"with the agent's own SVID":     s.serverTLS(t, "spiffe://example.org/agent/mallory"),
		"with the sidecar's own SVID":   s.serverTLS(t, s.sidecar.Instance),
		"with the API server's SVID":    s.serverTLS(t, "spiffe://example.org/exeat/api"),
		"with a certificate of its own": credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{*selfSigned(t, judge)}, NextProtos: []string{"h2"}}),
	} {
		t.Run(name, func(t *testing.T) {
			i, stop := s.serve(t, creds)
			defer stop()
			for _, target := range []string{itemAt(s.mirror), "https://" + mirrorHost + "/v1/items/OPS-43"} {
				undecided(t, target, stack.Get(t, s.task.HTTP(t), target), "internal")
			}
			if i.conns.Load() == 0 || i.checks.Load() != 0 {
				t.Errorf("it was asked %d times on %d connections", i.checks.Load(), i.conns.Load())
			}
		})
	}
	if len(s.mirror.Seen()) != before {
		t.Error("it was reached")
	}
	// With the one identity it would be believed: so that is what it was about.
	i, stop := s.serve(t, s.serverTLS(t, judge))
	stack.WantOK(t, stack.Get(t, s.task.HTTP(t), itemAt(s.mirror)))
	if i.checks.Load() == 0 {
		t.Error("the judge was not asked")
	}
	stop()
}
