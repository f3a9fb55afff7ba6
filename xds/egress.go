package xds

import (
	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	typematcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/exeat-dev/exeat/policy"
)

var unknownTask = problem{policy.UnknownTask, 407, "The proxy credential is not one of a running task", policy.RetryNever}

// egressRoutes leads each task's calls into its room, by the whole value of
// Proxy-Authorization. A tree, not a list of header matches: a list lets any one
// of two values match, the tree joins them and finds nothing. Without a room or
// without a credential the answer is 407 (RFC 9110 section 15.5.8).
func egressRoutes(rooms []Room) *resource {
	host := &routev3.VirtualHost{Name: "all", Domains: []string{"*"}}
	if len(rooms) == 0 { // a tree without a leaf is not valid
		host.Routes = refusals()
	} else {
		host.Matcher = egressTree(rooms)
	}
	return newResource(routeEgress, &routev3.RouteConfiguration{
		Name: routeEgress, VirtualHosts: []*routev3.VirtualHost{host},
	})
}

func egressTree(rooms []Room) *xdsmatcherv3.Matcher {
	byCredential := make(map[string]*xdsmatcherv3.Matcher_OnMatch, len(rooms))
	for _, r := range rooms {
		byCredential[r.Authorization.Expose()] = onMatch(&routev3.RouteList{Routes: intoRoom(r.Task)})
	}
	input := &typematcherv3.HttpRequestHeaderMatchInput{HeaderName: "proxy-authorization"}
	return &xdsmatcherv3.Matcher{
		MatcherType: &xdsmatcherv3.Matcher_MatcherTree_{MatcherTree: &xdsmatcherv3.Matcher_MatcherTree{
			Input: extension("request-headers", input),
			TreeType: &xdsmatcherv3.Matcher_MatcherTree_ExactMatchMap{
				ExactMatchMap: &xdsmatcherv3.Matcher_MatcherTree_MatchMap{Map: byCredential},
			},
		}},
		OnNoMatch: onMatch(&routev3.RouteList{Routes: refusals()}),
	}
}

// intoRoom: a tunnel ends in the room, as do the requests of plain HTTP. Neither
// is timed here: the room's own chain does that, per call.
func intoRoom(task policy.TaskID) []*routev3.Route {
	action := func() *routev3.RouteAction {
		return &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: policy.RoomName(task)},
			Timeout:          durationpb.New(0),
			IdleTimeout:      durationpb.New(0),
		}
	}
	connect := action()
	connect.UpgradeConfigs = []*routev3.RouteAction_UpgradeConfig{{
		UpgradeType: "CONNECT", ConnectConfig: &routev3.RouteAction_UpgradeConfig_ConnectConfig{},
	}}
	return []*routev3.Route{
		{Match: connectMatch(), Action: &routev3.Route_Route{Route: connect}},
		{Match: anyPath(), Action: &routev3.Route_Route{Route: action()}, RequestHeadersToRemove: []string{"proxy-authorization"}},
	}
}

func refusals() []*routev3.Route {
	challenge := func() *corev3.HeaderValueOption {
		return setHeader("proxy-authenticate", `Basic realm="exeat"`)
	}
	return []*routev3.Route{
		unknownTask.route(connectMatch(), challenge()),
		unknownTask.route(anyPath(), challenge()),
	}
}

func connectMatch() *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_ConnectMatcher_{
		ConnectMatcher: &routev3.RouteMatch_ConnectMatcher{},
	}}
}

func onMatch(list *routev3.RouteList) *xdsmatcherv3.Matcher_OnMatch {
	return &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{Action: extension("routes", list)}}
}

func extension(name string, config proto.Message) *xdscorev3.TypedExtensionConfig {
	return &xdscorev3.TypedExtensionConfig{Name: name, TypedConfig: pack(config)}
}
