package xds

import (
	"encoding/json"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/exeat-dev/exeat/policy"
)

// problemType is the media type of RFC 9457.
const problemType = "application/problem+json"

// problem is a denial that Envoy gives by itself, in the form of all denials.
type problem struct {
	reason policy.Reason
	status uint32
	title  string
	retry  policy.Retry
}

func (p problem) body() string {
	b, err := json.Marshal(struct {
		Type   string       `json:"type"`
		Title  string       `json:"title"`
		Status uint32       `json:"status"`
		Reason string       `json:"reason"`
		Retry  policy.Retry `json:"retry"`
	}{"https://exeat.dev/problems/" + p.reason.String(), p.title, p.status, p.reason.String(), p.retry})
	if err != nil {
		return "{}" // these fields always marshal
	}
	return string(b)
}

// problemFields is the same for a local reply, which Envoy writes.
func problemFields(p problem) map[string]*structpb.Value {
	return map[string]*structpb.Value{
		"type":   structpb.NewStringValue("https://exeat.dev/problems/" + p.reason.String()),
		"title":  structpb.NewStringValue(p.title),
		"status": structpb.NewNumberValue(float64(p.status)),
		"reason": structpb.NewStringValue(p.reason.String()),
		"retry":  structpb.NewStringValue(string(p.retry)),
	}
}

// route answers with the problem whatever matches, with further headers.
func (p problem) route(match *routev3.RouteMatch, headers ...*corev3.HeaderValueOption) *routev3.Route {
	return &routev3.Route{
		Match: match,
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
			Status: p.status,
			Body:   &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: p.body()}},
		}},
		ResponseHeadersToAdd: append(headers, setHeader("content-type", problemType)),
	}
}

func setHeader(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}
