package proxy

import (
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/policy"
)

func TestWhichHeadersPass(t *testing.T) {
	t.Parallel()
	d := &policy.Destination{Headers: []string{"x-ticket-version", "x-trace-*"}}
	for _, name := range []string{
		"accept", "accept-encoding", "content-type", "content-length", "if-none-match", "range", "user-agent",
		"te", "traceparent", "idempotency-key", "last-event-id", "upgrade", "sec-websocket-key",
		"x-ticket-version", "x-trace-", "x-trace-id",
		"x-forwarded-proto", "x-request-id", "grpc-timeout", // the route removes these
	} {
		if !passes(name, d) {
			t.Errorf("%s does not pass", name)
		}
	}
	for _, name := range []string{
		"authorization", "cookie", "proxy-authorization", "proxy-connection", "forwarded", "via", "x-real-ip",
		"x-forwarded-for", "x-forwarded-host", "x-forwarded-client-cert", "x-envoy-original-path",
		"x-envoy-upstream-rq-timeout-ms", "x-envoy-auth-partial-body", "exeat-grant", "exeat-call", "exeat-task", "exeat-anything",
		"x-api-key", "x-amz-security-token", "baggage", "referer", "origin", "sec-websocket-protocol",
		"x-tracer", "x-ticket-version2", "x-ticket", "x_trace_id", "accept_encoding", "authorization_", "_method",
	} {
		if passes(name, d) {
			t.Errorf("%s passes", name)
		}
	}
}

func TestWhatADestinationListsCannotUndoTheFloor(t *testing.T) {
	t.Parallel()
	d := &policy.Destination{Headers: []string{
		"*", "authorization", "cookie", "exeat-*", "x-envoy-*", "x-forwarded-for", "proxy-authorization",
	}}
	for _, name := range []string{
		"authorization", "cookie", "proxy-authorization", "exeat-grant", "exeat-task", "x-envoy-attempt-count",
		"x-forwarded-for", "x_forwarded_for", "exeat_grant", "x-http-method-override",
	} {
		if passes(name, d) {
			t.Errorf("%s passes because it is listed", name)
		}
	}
	if !passes("x-api-key", d) {
		t.Error("a listed name does not pass")
	}
}

func TestTheTableOfHeadersIsWellFormed(t *testing.T) {
	t.Parallel()
	var seen uint32
	for name, h := range headers {
		if !isToken(name) || name != strings.ToLower(name) || strings.Contains(name, "_") {
			t.Errorf("%q can never be looked up", name)
		}
		if !h.pass && h.single == 0 {
			t.Errorf("%q is in the table for nothing", name)
		}
		if policy.OverrideHeader(name) {
			t.Errorf("%q is in the table and overrides", name)
		}
		if seen&h.single != 0 {
			t.Errorf("%q shares its bit with another name", name)
		}
		seen |= h.single
	}
}

func TestACredentialGoesOnlyWhereOneMay(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"authorization", "x-api-key", "cookie", "private-token"} {
		if !settable(name) {
			t.Errorf("%s refused", name)
		}
	}
	for _, name := range []string{
		"", ":path", ":authority", "host", "Authorization", "content-length", "transfer-encoding", "grpc-timeout",
		"connection", "x-request-id", "exeat-task", "x-http-method-override", "a b", "a\r\nb",
	} {
		if settable(name) {
			t.Errorf("%q accepted", name)
		}
	}
}
