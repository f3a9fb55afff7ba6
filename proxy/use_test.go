package proxy

import (
	"testing"
	"time"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/exeat-dev/exeat/policy"
)

// limitedWorld has a grant of so many uses, of which some are spent as far as
// this replica knows.
func limitedWorld(t testing.TB, uses, used int64) *world {
	w := newWorld(t)
	w.change(func(h *policy.Held) { h.Grant.MaxUses, h.Use.Used = uses, used })
	w.ends = make(chan policy.CallEnd, 1)
	return w
}

func spends(reason policy.Reason) func(*policy.Held, policy.UseRequest) policy.Spending {
	return func(*policy.Held, policy.UseRequest) policy.Spending {
		return policy.Spending{Reason: reason, After: 1500 * time.Millisecond}
	}
}

func TestAUseIsSpentBeforeTheCredentialGoesOn(t *testing.T) {
	t.Parallel()
	w := limitedWorld(t, 2, 0)
	var order []string
	w.onUse = func(h *policy.Held, u policy.UseRequest) policy.Spending {
		if h.Grant.ID != grantID || u.ID == "" || u.Call != "pay-7" {
			t.Errorf("asked for %+v of %s", u, h.Grant.ID)
		}
		order = append(order, "use")
		return policy.Spending{Reason: policy.Allowed}
	}
	w.onApply = func() error { order = append(order, "credential"); return nil }
	resp, err := w.server(t, sidecarOne).Check(t.Context(), get("exeat-call: pay-7"))
	if err != nil || resp.GetOkResponse() == nil {
		t.Fatalf("denied: %v, %v", resp, err)
	}
	if len(order) != 2 || order[0] != "use" {
		t.Errorf("the order was %v", order)
	}
	if resp.GetDynamicMetadata().GetFields()[metaUse].GetStringValue() == "" {
		t.Error("the answer does not tell Envoy which use it was")
	}
}

func TestWithoutItsUseACallIsDenied(t *testing.T) {
	t.Parallel()
	for _, reason := range []policy.Reason{
		policy.Internal, policy.UsesExhausted, policy.RateLimited, policy.Replayed, policy.StateStale, policy.GrantEnded, policy.Overloaded,
	} {
		w := limitedWorld(t, 2, 0)
		w.onUse = spends(reason)
		w.onApply = func() error { t.Error("a credential was asked for"); return nil }
		resp, err := w.server(t, sidecarOne).Check(t.Context(), get())
		if err != nil {
			t.Fatal(err)
		}
		wantDenied(t, resp, reason)
		if after := headerOf(resp, "retry-after"); reason == policy.RateLimited && after != "2" {
			t.Errorf("retry after %q, want 2", after)
		}
		if w.theDecision(t).Reason != reason {
			t.Errorf("recorded as %s", w.decisions[0].Reason)
		}
	}
}

func headerOf(resp *authv3.CheckResponse, name string) string {
	for _, h := range resp.GetDeniedResponse().GetHeaders() {
		if h.GetHeader().GetKey() == name {
			return h.GetHeader().GetValue()
		}
	}
	return ""
}

func TestWhoHasNoLimitsAsksNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t) // its Consumer would deny
	resp, err := w.server(t, sidecarOne).Check(t.Context(), get())
	if err != nil || resp.GetOkResponse() == nil {
		t.Fatalf("denied: %v, %v", resp, err)
	}
	if _, ok := resp.GetDynamicMetadata().GetFields()[metaUse]; ok {
		t.Error("there is a use to settle")
	}
	// But a name of its own makes any call one that is asked about.
	resp, err = w.server(t, sidecarOne).Check(t.Context(), get("exeat-call: pay-7"))
	if err != nil {
		t.Fatal(err)
	}
	wantDenied(t, resp, policy.Internal)
}

func TestANameThatIsNoneIsNotReadAsNoName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "a b", "a,b"} {
		resp, err := newWorld(t).server(t, sidecarOne).Check(t.Context(), get("exeat-call: "+name))
		if err != nil {
			t.Fatal(err)
		}
		wantDenied(t, resp, policy.MalformedCall)
	}
}

// What is exhausted by the store though not by this replica's view leaves the
// call to another grant that covers it.
func TestAnExhaustedGrantLeavesTheCallToAnother(t *testing.T) {
	t.Parallel()
	w := limitedWorld(t, 2, 0)
	second := held(t, w.cat, grantID[:len(grantID)-1]+"C", "read-ticket")
	second.Grant.MaxUses = 2
	w.views[taskID] = task(w.one(), second)
	w.onUse = func(h *policy.Held, _ policy.UseRequest) policy.Spending {
		if h.Grant.ID == grantID {
			return policy.Spending{Reason: policy.UsesExhausted, Use: &policy.Use{Used: 2}}
		}
		return policy.Spending{Reason: policy.Allowed}
	}
	s := w.server(t, sidecarOne)
	resp, err := s.Check(t.Context(), get())
	if err != nil || resp.GetOkResponse() == nil {
		t.Fatalf("denied: %v, %v", resp, err)
	}
	if d := w.theDecision(t); d.Grant != second.Grant.ID {
		t.Errorf("by %s", d.Grant)
	}
	w.onUse = func(*policy.Held, policy.UseRequest) policy.Spending {
		return policy.Spending{Reason: policy.UsesExhausted, Use: &policy.Use{Used: 2}}
	}
	if resp, err = s.Check(t.Context(), get()); err != nil {
		t.Fatal(err)
	}
	wantDenied(t, resp, policy.UsesExhausted)
}

func TestTheSameCheckHasTheSameUse(t *testing.T) {
	t.Parallel()
	id := func(peer string, change func(*authv3.CheckRequest)) string {
		w := limitedWorld(t, 9, 0)
		var id string
		w.onUse = func(_ *policy.Held, u policy.UseRequest) policy.Spending {
			id = u.ID
			return policy.Spending{Reason: policy.Allowed}
		}
		req := get()
		change(req)
		if _, err := w.server(t, peer).Check(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		return id
	}
	first := id(sidecarOne, func(*authv3.CheckRequest) {})
	if again := id(sidecarOne, func(*authv3.CheckRequest) {}); again != first || len(first) != 22 {
		t.Errorf("%q and %q", first, again)
	}
	for why, change := range map[string]func(*authv3.CheckRequest){
		"another stream": func(r *authv3.CheckRequest) { r.Attributes.Request.Http.Id = "2" },
		"another host": func(r *authv3.CheckRequest) {
			*r = *withSNI(checkRequest("GET", "https", "tickets.example.org:443", "/v1/tickets/OPS-42"), "tickets.example.org")
		},
		"another request": func(r *authv3.CheckRequest) {
			for _, h := range r.Attributes.Request.Http.HeaderMap.Headers {
				if h.Key == "x-request-id" {
					h.RawValue = []byte("other")
				}
			}
		},
	} {
		if other := id(sidecarOne, change); other == first || other == "" {
			t.Errorf("%s: %q", why, other)
		}
	}
	// Without Envoy's number two calls could not be told apart.
	w := limitedWorld(t, 9, 0)
	req := get()
	req.Attributes.Request.Http.Id = ""
	resp, err := w.server(t, sidecarOne).Check(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	wantDenied(t, resp, policy.MalformedCall)
}

// The first answer was lost, and meanwhile this replica has heard of the use.
func TestACheckThatComesAgainKeepsItsUse(t *testing.T) {
	t.Parallel()
	w := limitedWorld(t, 1, 0)
	var id string
	w.onUse = func(_ *policy.Held, u policy.UseRequest) policy.Spending {
		id = u.ID
		return policy.Spending{Reason: policy.Allowed}
	}
	s := w.server(t, sidecarOne)
	for range 2 {
		resp, err := s.Check(t.Context(), get())
		if err != nil || resp.GetOkResponse() == nil {
			t.Fatalf("denied: %v, %v", resp, err)
		}
		w.change(func(h *policy.Held) { h.Use = policy.Use{Used: 1, Recent: []policy.RecentUse{{ID: id}}} })
	}
	other := get()
	other.Attributes.Request.Http.Id = "2"
	resp, err := s.Check(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	wantDenied(t, resp, policy.UsesExhausted)
}

func TestOnlyAConnectFailureIsSettledAsUnreached(t *testing.T) {
	t.Parallel()
	meta := map[string]string{metaDecision: decisionID, metaGrant: string(grantID), metaUse: "u1"}
	failed := func(change func(*datav3.HTTPAccessLogEntry)) *datav3.HTTPAccessLogEntry {
		e := logged(503, "upstream_reset_before_response_started{remote_connection_failure}", meta)
		e.CommonProperties.ResponseFlags = &datav3.ResponseFlags{UpstreamConnectionFailure: true}
		change(e)
		return e
	}
	same := func(*datav3.HTTPAccessLogEntry) {}
	for says, row := range map[string]struct {
		entry     *datav3.HTTPAccessLogEntry
		unreached bool
	}{
		"connection failure":        {failed(same), true},
		"but something was sent":    {failed(func(e *datav3.HTTPAccessLogEntry) { e.CommonProperties.UpstreamWireBytesSent = 1 }), false},
		"but the upstream answered": {failed(func(e *datav3.HTTPAccessLogEntry) { e.Response.ResponseCodeDetails = viaUpstream }), false},
		"the connection ended in between": {failed(func(e *datav3.HTTPAccessLogEntry) {
			e.CommonProperties.ResponseFlags = &datav3.ResponseFlags{UpstreamConnectionTermination: true}
		}), false},
		"no answer in time": {failed(func(e *datav3.HTTPAccessLogEntry) {
			e.CommonProperties.ResponseFlags = &datav3.ResponseFlags{UpstreamRequestTimeout: true}
		}), false},
		"the client went away": {failed(func(e *datav3.HTTPAccessLogEntry) {
			e.CommonProperties.ResponseFlags = &datav3.ResponseFlags{DownstreamConnectionTermination: true}
		}), false},
		"an answer": {logged(503, viaUpstream, meta), false},
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			w := limitedWorld(t, 1, 1)
			s := w.server(t, sidecarOne)
			s.ended(t.Context(), sidecarOne, row.entry)
			select {
			case end := <-w.ends:
				if !row.unreached || !end.Unreached {
					t.Errorf("settled as %+v", end)
				}
			case <-whenIdle(s):
				if row.unreached && len(w.ends) == 0 {
					t.Error("nothing was settled")
				}
			}
		})
	}
}

// whenIdle is closed once no settling runs.
func whenIdle(s *Server) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range cap(s.settling) {
			s.settling <- struct{}{}
		}
	}()
	return done
}

func TestTheBytesOfACallAreSettled(t *testing.T) {
	t.Parallel()
	w := limitedWorld(t, 0, 0)
	w.change(func(h *policy.Held) {
		limited, of := *h.Resolved, *h.Resolved.Capability
		of.Limits.Bytes = 100
		limited.Capability, h.Resolved = &of, &limited
	})
	e := logged(200, viaUpstream, map[string]string{metaDecision: decisionID, metaGrant: string(grantID), metaUse: "u1"})
	e.Request.RequestHeadersBytes, e.Response.ResponseHeadersBytes = 30, 40
	w.server(t, sidecarOne).ended(t.Context(), sidecarOne, e)
	if end := <-w.ends; end.Bytes != 30+5+40+7 || end.Unreached {
		t.Errorf("settled as %+v", end)
	}
}
