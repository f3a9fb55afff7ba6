package sidecar

import (
	"encoding/json"
	"strconv"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Reasons of the closed enum that Envoy itself can have to refuse a call.
const (
	reasonMalformed = "malformed_call"
	// The control plane or the room cannot be reached: nothing is known to be
	// allowed, and it is worth asking again.
	reasonStale    = "state_stale"
	reasonInternal = "internal"
)

const problemType = "application/problem+json"

// problem is a denial as a body of problem+json (RFC 9457).
func problem(status int, reason, title string) string {
	body, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Reason string `json:"reason"`
		Retry  string `json:"retry"`
	}{"https://exeat.dev/problems/" + reason, title, status, reason, retry(reason)})
	if err != nil {
		return "{}" // strings and a number: it does not happen
	}
	return string(body)
}

func retry(reason string) string {
	if reason == reasonMalformed {
		return "never"
	}
	return "after"
}

// localReplies are Envoy's own answers in our form, by status. 403, 404, 407,
// 415 and 421 are not here: those are answers that a route table gives, in its
// own words.
func localReplies(unreachable string) *hcmv3.LocalReplyConfig {
	out := &hcmv3.LocalReplyConfig{}
	for _, r := range []struct {
		status        int
		reason, title string
	}{
		{400, reasonMalformed, "The request is malformed"},
		{408, reasonMalformed, "The request took too long to arrive"},
		{413, reasonMalformed, "The request is too large"},
		{426, reasonMalformed, "The request needs HTTP/1.1"},
		{431, reasonMalformed, "The request's headers are too large"},
		{500, reasonInternal, "The sidecar could not handle the request"},
		{501, reasonMalformed, "The request's transfer encoding is not supported"},
		{502, reasonInternal, "The answer could not be understood"},
		{503, reasonStale, unreachable},
		{504, reasonStale, "Exeat's control plane did not answer in time"},
	} {
		out.Mappers = append(out.Mappers, mapper(hasStatus(r.status), problem(r.status, r.reason, r.title)))
	}
	// No route at all, such as CONNECT to the API: its flag tells it from a
	// route that answers 404.
	out.Mappers = append(out.Mappers, mapper(noRoute(), problem(404, reasonMalformed, "There is nothing here")))
	// Envoy's own 403 says nothing, and would look like a decision.
	https := mapper(httpsInClear(), problem(400, reasonMalformed, "An https URL needs a tunnel (CONNECT), not clear text"))
	https.StatusCode = wrapperspb.UInt32(400)
	out.Mappers = append(out.Mappers, https)
	return out
}

// httpsInClear is an absolute form with https on a connection without TLS.
func httpsInClear() *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
		ExtensionFilter: &accesslogv3.ExtensionFilter{
			Name: "envoy.access_loggers.extension_filters.cel",
			ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: pack(&celv3.ExpressionFilter{
				Expression: `response.code_details == "http1.https_url_on_plaintext_connection"`,
			})},
		},
	}}
}

func hasStatus(status int) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_StatusCodeFilter{
		StatusCodeFilter: &accesslogv3.StatusCodeFilter{Comparison: &accesslogv3.ComparisonFilter{
			Op: accesslogv3.ComparisonFilter_EQ,
			Value: &corev3.RuntimeUInt32{
				DefaultValue: uint32(status), RuntimeKey: "exeat.local_reply." + strconv.Itoa(status),
			},
		}},
	}}
}

func noRoute() *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
		ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: []string{"NR"}},
	}}
}

func mapper(filter *accesslogv3.AccessLogFilter, body string) *hcmv3.ResponseMapper {
	return &hcmv3.ResponseMapper{
		Filter: filter,
		Body:   &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: body}},
		BodyFormatOverride: &corev3.SubstitutionFormatString{
			ContentType: problemType,
			Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
				Specifier: &corev3.DataSource_InlineString{InlineString: "%LOCAL_REPLY_BODY%"},
			}},
		},
	}
}
