package xds

import (
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/exeat-dev/exeat/policy"
)

var (
	elsewhere = problem{policy.UnknownDestination, 403, "No grant of this task reaches that host", policy.RetryNever}
	undecided = problem{policy.Internal, 503, "The decision set no usable time limit", policy.RetryAfter}
)

// chainRoutes is the route table of one host: what was granted, and a no for any
// other authority on the same connection.
func chainRoutes(r Room, c Chain) *resource {
	var hosts []*routev3.VirtualHost
	for _, up := range c.Upstreams {
		hosts = append(hosts, serve(r, up, up.Destination.Name, 443, c.Epoch))
	}
	return table(r, chainID{c.Host, c.Epoch}, policy.DestinationNone, hosts...)
}

// plainRoutes is the route table of everything without TLS, and of our API.
func plainRoutes(r Room) *resource {
	hosts := []*routev3.VirtualHost{apiHost(r.Task)}
	for _, up := range r.Plain {
		if up.Host != policy.HostAPI {
			hosts = append(hosts, serve(r, up, policy.DestinationPlain, 80, r.PlainEpoch))
		}
	}
	return table(r, chainID{hostPlain, r.PlainEpoch}, policy.DestinationPlain, hosts...)
}

// defaultRoutes is the route table for hosts that the task has no grant for.
func defaultRoutes(r Room) *resource {
	return table(r, chainID{hostDefault, defaultEpoch}, policy.DestinationNone)
}

// table completes a chain's virtual hosts. Each call on another authority is
// decided on as well, so that its denial is worded and recorded like all; the
// route after it only answers should that decision be yes.
func table(r Room, c chainID, other string, hosts ...*routev3.VirtualHost) *resource {
	name := c.routeName(r.Task)
	return newResource(name, &routev3.RouteConfiguration{
		Name: name,
		VirtualHosts: append(distinct(hosts), &routev3.VirtualHost{
			Name:                 "other",
			Domains:              []string{"*"},
			TypedPerFilterConfig: checkSettings(r.Task, r.Agent, other, c.epoch),
			Routes:               []*routev3.Route{elsewhere.route(anyPath())},
		}),
		MaxDirectResponseBodySizeBytes: wrapperspb.UInt32(4096),
	})
}

// distinct leaves out a host whose name and port another has already: Envoy would
// refuse the whole table. A catalog with such a pair is refused before.
func distinct(hosts []*routev3.VirtualHost) []*routev3.VirtualHost {
	var out []*routev3.VirtualHost
	taken := make(map[string]bool)
	for _, h := range hosts {
		if !taken[h.Domains[0]] {
			taken[h.Domains[0]] = true
			out = append(out, h)
		}
	}
	return out
}

// serve lets decided calls to one host through. standard is the scheme's port,
// which an authority may leave out (RFC 9110 section 4.2).
func serve(r Room, up Upstream, extension string, standard uint16, cut int64) *routev3.VirtualHost {
	port := up.Destination.Port
	domains := []string{up.Host + ":" + strconv.Itoa(int(port))}
	if port == standard {
		domains = append(domains, up.Host)
	}
	return &routev3.VirtualHost{
		Name:                 domains[0],
		Domains:              domains,
		TypedPerFilterConfig: checkSettings(r.Task, r.Agent, extension, cut),
		Routes:               []*routev3.Route{limited(up), undecided.route(anyPath())},
	}
}

// limited is the one route that leads out. It matches only with a well-formed
// time limit, which the decision set: Envoy takes a malformed one for none.
func limited(up Upstream) *routev3.Route {
	match := anyPath()
	match.Headers = []*routev3.HeaderMatcher{{
		Name: "grpc-timeout",
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: "^[0-9]{1,8}[mS]$"}},
		}},
	}}
	return &routev3.Route{
		Match: match,
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: upstreamName(up.Destination.Name, up.Host)},
			Timeout:          durationpb.New(0),
			IdleTimeout:      durationpb.New(0),
			MaxStreamDuration: &routev3.RouteAction_MaxStreamDuration{
				GrpcTimeoutHeaderMax: durationpb.New(0), // no maximum beside the header's own value
			},
		}},
		RequestHeadersToRemove: []string{
			"grpc-timeout", "x-forwarded-proto", "x-request-id",
			policy.HeaderGrant, policy.HeaderCall, policy.HeaderTask, policy.HeaderTaskCredential, policy.HeaderDecision,
		},
	}
}

// apiHost leads to our API and tells it for which task: the room knows, the
// client's word for it was stripped.
func apiHost(task policy.TaskID) *routev3.VirtualHost {
	return &routev3.VirtualHost{
		Name:                 "api",
		Domains:              []string{policy.HostAPI, policy.HostAPI + ":80"},
		TypedPerFilterConfig: uncheckedAPI(),
		Routes: []*routev3.Route{{
			Match: anyPath(),
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: clusterAPI},
				Timeout:          durationpb.New(0),
				IdleTimeout:      durationpb.New(5 * time.Minute),
			}},
			RequestHeadersToAdd: []*corev3.HeaderValueOption{setHeader(policy.HeaderTask, string(task))},
		}},
	}
}

func anyPath() *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
}
