package sidecar

import (
	"fmt"
	"regexp"

	rulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

// roomHost is the API's name inside a room.
const roomHost = `(?i)exeat\.internal(:80)?`

// loopbackHost is what Host may be at EXEAT_URL: a page in a browser that made
// its own name resolve to loopback still sends that name (DNS rebinding).
func loopbackHost(at listenAddress) string {
	port := "[0-9]{1,5}"
	if at.port != 0 {
		port = fmt.Sprint(at.port)
	}
	host := regexp.QuoteMeta(at.ip.String())
	if at.ip.To4() == nil {
		host = `\[` + host + `\]`
	}
	return fmt.Sprintf("(?i)(%s|localhost):%s", host, port)
}

// apiManager lets the API's paths through, and nothing else. external is the
// listener that the agent reaches: there nobody says for which task.
func apiManager(name, host string, external bool) *hcmv3.HttpConnectionManager {
	hcm := baseManager(name, "Exeat's API cannot be reached")
	hcm.NormalizePath = yes()
	hcm.MergeSlashes = true
	hcm.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_REJECT_REQUEST
	hcm.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{
		// exeat_task is exeat-task to some servers.
		HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_REJECT_REQUEST,
	}
	hcm.RequestTimeout = seconds(60) // of the request alone; the answer may take forever
	hcm.HttpFilters = []*hcmv3.HttpFilter{stripFilter(), router(&routerv3.Router{SuppressEnvoyHeaders: true})}
	hcm.RouteSpecifier = inlineRoutes(name, apiRoutes(host, external))
	return hcm
}

// apiRoutes are tried in order: first what is refused, then what is let through.
func apiRoutes(host string, external bool) []*routev3.Route {
	wrongHost := header(":authority", &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
		SafeRegex: &matcherv3.RegexMatcher{Regex: host},
	}})
	wrongHost.InvertMatch = true
	wrongHost.TreatMissingHeaderAsEmpty = true
	routes := []*routev3.Route{refuse(421, "This is not the host that the API answers to", wrongHost)}
	for _, name := range []string{"origin", "sec-fetch-site", "sec-fetch-dest", "sec-fetch-user"} {
		routes = append(routes, refuse(403, "The API is not for browsers", present(name)))
	}
	// gRPC goes to another server. The value is searched, not compared: two
	// content-types would be joined to one that only begins differently.
	grpc := header("content-type", &matcherv3.StringMatcher{
		MatchPattern: &matcherv3.StringMatcher_Contains{Contains: "application/grpc"}, IgnoreCase: true,
	})
	routes = append(routes, refuse(415, "The API does not speak gRPC", grpc))
	for _, path := range []string{"/v1", "/mcp", "/.well-known"} {
		routes = append(routes, pass(&routev3.RouteMatch{
			PathSpecifier: &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: path}}, external))
	}
	for _, path := range []string{"/openapi.json", "/jwks"} {
		routes = append(routes, pass(&routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: path}}, external))
	}
	return append(routes, refuse(404, "The API has no such path"))
}

// pass sends a request on, without what could speak for anybody but the sidecar.
func pass(match *routev3.RouteMatch, external bool) *routev3.Route {
	remove := []string{"authorization", "proxy-authorization", "cookie", "x-forwarded-proto"}
	if external {
		remove = append(remove, "exeat-task")
	}
	return &routev3.Route{
		Match: match,
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: clusterAPI},
			Timeout:          durationpb.New(0),
		}},
		RequestHeadersToRemove: remove,
	}
}

func refuse(status int, title string, headers ...*routev3.HeaderMatcher) *routev3.Route {
	return &routev3.Route{
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}, Headers: headers},
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
			Status: uint32(status),
			Body: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{
				InlineString: problem(status, reasonMalformed, title),
			}},
		}},
		ResponseHeadersToAdd: []*corev3.HeaderValueOption{{
			Header:       &corev3.HeaderValue{Key: "content-type", Value: problemType},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}},
	}
}

func header(name string, matcher *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{
		Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: matcher},
	}
}

func present(name string) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{
		Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true},
	}
}

// stripFilter removes what only a proxy may say. x-forwarded-proto must stay
// until the route is chosen, which removes it.
func stripFilter() *hcmv3.HttpFilter {
	prefix := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "x-envoy-"}}
	forwarded := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
		SafeRegex: &matcherv3.RegexMatcher{Regex: "forwarded|x-real-ip|x-forwarded-(for|host|port|prefix|client-cert)"},
	}}
	config := &mutationv3.HeaderMutation{Mutations: &mutationv3.Mutations{RequestMutations: []*rulesv3.HeaderMutation{
		removeMatching(prefix), removeMatching(forwarded),
	}}}
	return &hcmv3.HttpFilter{
		Name:       "envoy.filters.http.header_mutation",
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(config)},
	}
}

func removeMatching(key *matcherv3.StringMatcher) *rulesv3.HeaderMutation {
	return &rulesv3.HeaderMutation{Action: &rulesv3.HeaderMutation_RemoveOnMatch_{
		RemoveOnMatch: &rulesv3.HeaderMutation_RemoveOnMatch{KeyMatcher: key},
	}}
}
