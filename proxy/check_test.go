package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/policy"
)

func TestAGrantedCallIsAllowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	req := get("authorization: Bearer forged", "cookie: a=1", "accept: */*", "x-trace-id: 7", "x-odd: 1", "x-odd: 2",
		"exeat-grant: "+string(grantID), "exeat-task: t_forged", "x-envoy-external-address: 127.0.0.1")
	resp, err := w.server(t, sidecarOne).Check(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	ok := resp.GetOkResponse()
	if ok == nil || resp.GetStatus().GetCode() != int32(codes.OK) {
		t.Fatalf("denied: %v", resp)
	}
	if got, want := setHeaders(ok), map[string]string{"authorization": minted, "grpc-timeout": "240000m"}; !maps.Equal(got, want) {
		t.Errorf("sets %v, want %v", got, want)
	}
	if got, want := ok.GetHeadersToRemove(), []string{"cookie", "x-odd", "exeat-grant", "exeat-task", "x-envoy-external-address"}; !slices.Equal(got, want) {
		t.Errorf("removes %v, want %v", got, want)
	}

	d := w.theDecision(t)
	if d.Reason != policy.Allowed || d.Grant != grantID || d.Task != taskID || d.Agent != "triage" || d.Instance != sidecarOne {
		t.Errorf("the record says %+v", d)
	}
	if got, want := d.Removed, []string{"authorization", "cookie", "x-odd", "exeat-grant", "exeat-task"}; !slices.Equal(got, want) {
		t.Errorf("the record says that %v were removed, want %v", got, want)
	}
	if d.Request != "e905d206-39b6-4449-a239-dc1bb73e8adf" || d.Store != 11 || d.Catalog != w.cat.Revision() {
		t.Errorf("the record was decided on %+v", d)
	}
	meta := resp.GetDynamicMetadata().GetFields()
	if got := meta[metaDecision].GetStringValue(); got != d.ID || !isDecisionID(got) {
		t.Errorf("Envoy carries decision %q, the record is of %q", got, d.ID)
	}
	if strings.Contains(d.Call.Path+d.Call.Host, "forged") {
		t.Error("the record holds a header's value")
	}
}

func setHeaders(ok *authv3.OkHttpResponse) map[string]string {
	set := map[string]string{}
	for _, h := range ok.GetHeaders() {
		if h.GetAppendAction().String() != "OVERWRITE_IF_EXISTS_OR_ADD" {
			set[h.GetHeader().GetKey()] = "would be appended"
			continue
		}
		set[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
	}
	return set
}

func (w *world) theDecision(t *testing.T) audit.Decision {
	t.Helper()
	if len(w.decisions) != 1 {
		t.Fatalf("%d decisions were recorded, want one", len(w.decisions))
	}
	return w.decisions[0]
}

// extended changes the context extensions of a request that is else granted.
func extended(change map[string]string) *authv3.CheckRequest {
	r := get()
	for k, v := range change {
		if v == "" {
			delete(r.Attributes.ContextExtensions, k)
			continue
		}
		r.Attributes.ContextExtensions[k] = v
	}
	return r
}

func withSNI(r *authv3.CheckRequest, sni string) *authv3.CheckRequest {
	r.Attributes.TlsSession = &authv3.AttributeContext_TLSSession{Sni: sni}
	return r
}

func onChain(r *authv3.CheckRequest, chain string) *authv3.CheckRequest {
	r.Attributes.ContextExtensions[policy.ExtensionDestination] = chain
	return r
}

// denials are requests, else granted, that differ in one thing.
func denials() map[string]struct {
	peer   string
	change func(*world)
	req    *authv3.CheckRequest
	want   policy.Reason
} {
	type row = struct {
		peer   string
		change func(*world)
		req    *authv3.CheckRequest
		want   policy.Reason
	}
	call := func(method, path string, more ...string) *authv3.CheckRequest {
		return checkRequest(method, "https", "tickets.example.org", path, more...)
	}
	const other = "t_01JAAAAAAAAAAAAAAAAAAAAAAZ"
	return map[string]row{
		"no attributes":                      {req: &authv3.CheckRequest{}, want: policy.MalformedCall},
		"no context extensions":              {req: extended(map[string]string{policy.ExtensionTask: "", policy.ExtensionAgent: "", policy.ExtensionDestination: ""}), want: policy.MalformedCall},
		"no task in the context":             {req: extended(map[string]string{policy.ExtensionTask: ""}), want: policy.MalformedCall},
		"no agent in the context":            {req: extended(map[string]string{policy.ExtensionAgent: ""}), want: policy.MalformedCall},
		"no destination in the context":      {req: extended(map[string]string{policy.ExtensionDestination: ""}), want: policy.MalformedCall},
		"a task that there is not":           {req: extended(map[string]string{policy.ExtensionTask: other}), want: policy.UnknownTask},
		"another agent in the context":       {req: extended(map[string]string{policy.ExtensionAgent: "other"}), want: policy.UnknownAgent},
		"another agent's sidecar":            {peer: sidecarElse, want: policy.UnknownAgent},
		"another agent's sidecar, its name":  {peer: sidecarElse, req: extended(map[string]string{policy.ExtensionAgent: "other"}), want: policy.UnknownTask},
		"another instance of the same agent": {peer: sidecarTwo, want: policy.UnknownTask},
		"a sidecar of nobody":                {peer: "spiffe://example.org/sidecar/gone/one", want: policy.UnknownAgent},
		"another trust domain's sidecar":     {peer: "spiffe://evil.example/sidecar/triage/one", want: policy.UnknownAgent},
		"a task whose agent is another": {change: func(w *world) {
			v := *w.views[taskID]
			v.Task.Agent = "other"
			w.views[taskID] = &v
		}, want: policy.UnknownTask},

		"another ticket":                    {req: call("GET", "/v1/tickets/OPS-43"), want: policy.CallNotGranted},
		"another method":                    {req: call("DELETE", "/v1/tickets/OPS-42"), want: policy.CallNotGranted},
		"a query that is not granted":       {req: call("GET", "/v1/tickets/OPS-42?all=1"), want: policy.QueryNotGranted},
		"a body by its length":              {req: get("content-length: 3"), want: policy.BodyNotGranted},
		"a body in chunks":                  {req: get("transfer-encoding: chunked"), want: policy.BodyNotGranted},
		"a body that only Envoy saw":        {req: hiddenBody(), want: policy.BodyNotGranted},
		"a body that goes on":               {req: get("x-envoy-auth-partial-body: true"), want: policy.BodyNotGranted},
		"an upgrade":                        {req: get("upgrade: websocket", "connection: Upgrade"), want: policy.BodyNotGranted},
		"a path with dots":                  {req: call("GET", "/v1/tickets/../tickets/OPS-42"), want: policy.MalformedCall},
		"TRACE":                             {req: call("TRACE", "/v1/tickets/OPS-42"), want: policy.MalformedCall},
		"CONNECT":                           {req: call("CONNECT", "/v1/tickets/OPS-42"), want: policy.MalformedCall},
		"a grant ID that is none":           {req: get("exeat-grant: x"), want: policy.MalformedCall},
		"two grant IDs":                     {req: get("exeat-grant: "+string(grantID), "exeat-grant: "+string(grantID)), want: policy.MalformedCall},
		"a method override":                 {req: get("x-http-method-override: DELETE"), want: policy.MalformedCall},
		"a URL override":                    {req: get("x-original-url: /admin"), want: policy.MalformedCall},
		"two lengths":                       {req: get("content-length: 0", "content-length: 0"), want: policy.MalformedCall},
		"a list of lengths":                 {req: get("content-length: 0,0"), want: policy.MalformedCall},
		"a negative length":                 {req: get("content-length: -1"), want: policy.MalformedCall},
		"two content types":                 {req: get("content-type: text/plain, application/grpc"), want: policy.MalformedCall},
		"two time limits":                   {req: get("grpc-timeout: 1S", "grpc-timeout: 2S"), want: policy.MalformedCall},
		"a hop-by-hop credential":           {req: get("connection: Upgrade, authorization", "upgrade: websocket"), want: policy.MalformedCall},
		"a line break in a header":          {req: get("accept: a\r\nauthorization: b"), want: policy.MalformedCall},
		"a header's name in capitals":       {req: get("Accept: a"), want: policy.MalformedCall},
		"a pseudo-header that differs":      {req: get(":path: /v1/tickets/OPS-43"), want: policy.MalformedCall},
		"an unknown pseudo-header":          {req: get(":protocol: websocket"), want: policy.MalformedCall},
		"another name in TLS":               {req: withSNI(get(), "wiki.example.org"), want: policy.MalformedCall},
		"no name in TLS":                    {req: withSNI(get(), ""), want: policy.MalformedCall},
		"another host of the destination":   {req: withSNI(get(), "tickets2.example.org"), want: policy.MalformedCall},
		"another destination's chain":       {req: onChain(get(), "wiki"), want: policy.MalformedCall},
		"the plain chain":                   {req: onChain(get(), policy.DestinationPlain), want: policy.MalformedCall},
		"another port":                      {req: checkRequest("GET", "https", "tickets.example.org:8443", "/v1/tickets/OPS-42"), want: policy.MalformedCall},
		"plain text on the TLS chain":       {req: checkRequest("GET", "http", "tickets.example.org", "/v1/tickets/OPS-42"), want: policy.MalformedCall},
		"granted, on the default chain":     {req: onChain(get(), policy.DestinationNone), want: policy.StateStale},
		"not granted, on the default chain": {req: onChain(call("GET", "/v1/tickets/OPS-43"), policy.DestinationNone), want: policy.CallNotGranted},
		"unknown host on the default chain": {req: onChain(checkRequest("GET", "https", "evil.example.com", "/"), policy.DestinationNone), want: policy.UnknownDestination},
		"another SNI on the default chain":  {req: withSNI(onChain(get(), policy.DestinationNone), "evil.example.com"), want: policy.MalformedCall},

		"no catalog":                {change: func(w *world) { w.cat = nil }, want: policy.StateStale},
		"a stale view":              {change: func(w *world) { w.stale = true }, want: policy.StateStale},
		"a stale view that says no": {change: func(w *world) { w.stale = true }, req: call("PUT", "/"), want: policy.StateStale},
		"no grant":                  {change: func(w *world) { w.views[taskID] = task() }, want: policy.NoGrant},
		"a grant that has expired":  {change: func(w *world) { w.now = epoch.Add(5 * time.Minute) }, want: policy.GrantExpired},
		"a grant that has ended":    {change: func(w *world) { w.change(func(h *policy.Held) { h.Grant.State = policy.Ended }) }, want: policy.GrantEnded},
		"a raised floor":            {change: func(w *world) { w.one().Floors[0].Raise(8) }, want: policy.GrantEnded},
		"less than a millisecond left": {change: func(w *world) { w.now = epoch.Add(5*time.Minute - time.Microsecond) },
			req: seenNow(), want: policy.GrantExpired},

		"no credential": {change: func(w *world) { w.onApply = func() error { return errors.New("none") } }, want: policy.CredentialUnavailable},
		"a credential that ends with its grant now": {change: func(w *world) {
			w.onApply = func() error { w.now = epoch.Add(5 * time.Minute); return errors.New("over") }
		}, want: policy.GrantExpired},
		"a credential in the target": {change: func(w *world) { w.headers[0].Name = ":path" }, want: policy.CredentialUnavailable},
		"a panic":                    {change: func(w *world) { w.onApply = func() error { panic("secret " + minted) } }, want: policy.Internal},
	}
}

func hiddenBody() *authv3.CheckRequest {
	r := get("x-envoy-auth-partial-body: false")
	r.Attributes.Request.Http.RawBody = []byte("x")
	return r
}

func seenNow() *authv3.CheckRequest {
	r := get()
	r.Attributes.Request.Time = nil
	return r
}

func TestEverythingElseIsDeniedForItsReason(t *testing.T) {
	t.Parallel()
	for says, row := range denials() {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			w, peer, req := newWorld(t), sidecarOne, get()
			if row.change != nil {
				row.change(w)
			}
			if row.peer != "" {
				peer = row.peer
			}
			if row.req != nil {
				req = row.req
			}
			resp, err := w.server(t, peer).Check(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			wantDenied(t, resp, row.want)
			if d := w.theDecision(t); d.Reason != row.want {
				t.Errorf("the record says %s, want %s", d.Reason, row.want)
			}
		})
	}
}

func wantDenied(t *testing.T, resp *authv3.CheckResponse, want policy.Reason) {
	t.Helper()
	denied := resp.GetDeniedResponse()
	if denied == nil || resp.GetStatus().GetCode() == int32(codes.OK) || resp.GetOkResponse() != nil {
		t.Fatalf("allowed: %v", resp)
	}
	var body struct{ Reason, Decision string }
	if err := json.Unmarshal([]byte(denied.GetBody()), &body); err != nil {
		t.Fatalf("the body is no JSON: %v", err)
	}
	if body.Reason != want.String() {
		t.Errorf("denied for %s, want %s", body.Reason, want)
	}
	set := map[string]string{}
	for _, h := range denied.GetHeaders() {
		set[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
	}
	if id := set[policy.HeaderDecision]; !isDecisionID(id) || id != body.Decision {
		t.Errorf("decision %q in the header, %q in the body", id, body.Decision)
	}
	if set["content-type"] != "application/problem+json" {
		t.Errorf("content-type %q", set["content-type"])
	}
	if code := denied.GetStatus().GetCode(); code < 400 || code > 599 {
		t.Errorf("status %v", code)
	}
	if strings.Contains(resp.String(), minted) {
		t.Error("the denial holds the credential")
	}
}

func TestADecisionThatCannotBeWrittenDenies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.onRecord = func(audit.Decision) error { return audit.ErrUnavailable }
	resp, err := w.server(t, sidecarOne).Check(t.Context(), get())
	if err != nil {
		t.Fatal(err)
	}
	wantDenied(t, resp, policy.AuditUnavailable)
	if resp.GetDynamicMetadata().GetFields()[metaUnrecorded].GetStringValue() != "audit_unavailable" {
		t.Error("the access log is not asked to bring the record later")
	}
}

func TestADenialThatCannotBeWrittenKeepsItsReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.onRecord = func(audit.Decision) error { return audit.ErrUnavailable }
	w.views[taskID] = task()
	resp, err := w.server(t, sidecarOne).Check(t.Context(), get())
	if err != nil {
		t.Fatal(err)
	}
	wantDenied(t, resp, policy.NoGrant)
}

// What changes while the decision is being written is seen by the last look.
func TestTheLastLook(t *testing.T) {
	t.Parallel()
	for says, row := range map[string]struct {
		change func(*world)
		want   policy.Reason
	}{
		"the grant expired":    {func(w *world) { w.now = epoch.Add(5 * time.Minute) }, policy.GrantExpired},
		"the grant ended":      {func(w *world) { w.change(func(h *policy.Held) { h.Grant.State = policy.Ended }) }, policy.GrantEnded},
		"the grant is gone":    {func(w *world) { w.views[taskID] = task() }, policy.GrantEnded},
		"the task is gone":     {func(w *world) { w.views = nil }, policy.GrantEnded},
		"a floor was raised":   {func(w *world) { w.one().Floors[0].Raise(8) }, policy.GrantEnded},
		"it means another":     {func(w *world) { w.change(func(h *policy.Held) { h.Resolved = &policy.Resolved{} }) }, policy.GrantEnded},
		"it means nothing":     {func(w *world) { w.change(func(h *policy.Held) { h.Resolved = nil }) }, policy.GrantEnded},
		"the view became old":  {func(w *world) { w.stale = true }, policy.StateStale},
		"the task's time over": {func(w *world) { v := *w.views[taskID]; v.Task.Until = epoch; w.views[taskID] = &v }, policy.GrantEnded},
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.onRecord = func(d audit.Decision) error {
				if d.Reason == policy.Allowed {
					row.change(w)
				}
				return nil
			}
			resp, err := w.server(t, sidecarOne).Check(t.Context(), get())
			if err != nil {
				t.Fatal(err)
			}
			wantDenied(t, resp, row.want)
			if len(w.decisions) != 2 || w.decisions[0].ID != w.decisions[1].ID || w.decisions[1].Reason != row.want {
				t.Errorf("the record says %+v; want allowed and then %s, under one ID", w.decisions, row.want)
			}
		})
	}
}

func TestAnAgentsOwnSVIDIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	resp, err := w.server(t, agentSVID).Check(t.Context(), get())
	if status.Code(err) != codes.PermissionDenied || resp != nil {
		t.Fatalf("got %v, %v", resp, err)
	}
	if d := w.theDecision(t); d.Reason != policy.UnknownAgent || d.Instance != agentSVID {
		t.Errorf("the record says %+v", d)
	}
}

func TestNobodyIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	resp, err := w.server(t, "").Check(t.Context(), get())
	if status.Code(err) != codes.Unauthenticated || resp != nil {
		t.Fatalf("got %v, %v", resp, err)
	}
	if len(w.decisions) != 0 {
		t.Error("something was recorded of a peer without an identity")
	}
}

func TestACheckThatNobodyWaitsForIsNoYes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.onApply = func() error { cancel(); return nil }
	resp, err := w.server(t, sidecarOne).Check(ctx, get())
	if status.Code(err) != codes.Canceled || resp != nil {
		t.Fatalf("got %v, %v", resp, err)
	}
}

// A check that was held until the view was fresh is decided by the time it is then.
func TestTimeGoesOnWhileACheckIsHeld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.onFresh = func() { w.now = epoch.Add(5 * time.Minute) }
	resp, err := w.server(t, sidecarOne).Check(t.Context(), get())
	if err != nil {
		t.Fatal(err)
	}
	wantDenied(t, resp, policy.GrantExpired)
	if len(w.decisions) != 1 {
		t.Errorf("%d decisions were recorded; one that is expired is never recorded as allowed", len(w.decisions))
	}
}

func TestOneCheckTooManyIsDeniedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.server(t, sidecarOne)
	s.load.most = 1
	inside, goOn := make(chan struct{}), make(chan struct{})
	w.onApply = func() error { close(inside); <-goOn; return nil }
	done := make(chan *authv3.CheckResponse)
	go func() {
		resp, _ := s.Check(context.WithoutCancel(t.Context()), get())
		done <- resp
	}()
	<-inside
	resp, err := s.Check(t.Context(), get())
	if err != nil {
		t.Fatal(err)
	}
	wantDenied(t, resp, policy.Overloaded)
	close(goOn)
	if resp := <-done; resp.GetOkResponse() == nil {
		t.Errorf("the one that was first is denied: %v", resp)
	}
	if s.load.running.Load() != 0 {
		t.Error("a check is still counted as running")
	}
}
