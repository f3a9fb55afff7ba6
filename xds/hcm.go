package xds

import (
	"time"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	headersTimeout = 15 * time.Second
	idleTimeout    = 10 * time.Minute // of a connection without a request
	// delayedClose is how long an HTTP/1 connection stays half open after its
	// stream was reset. At Envoy's 1 s a cut shows 1 s late, at 0 a client that
	// is still uploading misses the reason.
	delayedClose = 100 * time.Millisecond
)

// connectionManager serves one chain by the route table of the given name. With
// single, each connection carries one request: a client that was denied on the
// default chain must not stay on it once its host has a chain of its own.
func connectionManager(routeTable string, single bool) *hcmv3.HttpConnectionManager {
	common := &corev3.HttpProtocolOptions{
		IdleTimeout:                  durationpb.New(idleTimeout),
		HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_REJECT_REQUEST,
	}
	if single {
		common.MaxRequestsPerConnection = wrapperspb.UInt32(1)
	}
	return &hcmv3.HttpConnectionManager{
		StatPrefix: "room",
		CodecType:  hcmv3.HttpConnectionManager_AUTO,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{
			Rds: &hcmv3.Rds{ConfigSource: adsSource(), RouteConfigName: routeTable},
		},
		HttpFilters: []*hcmv3.HttpFilter{stripFilter(), authzFilter(), resolveFilter(), routerFilter()},

		// The client is nobody's proxy: what it says about those before it is
		// dropped, and its request ID replaced by Envoy's.
		UseRemoteAddress:         wrapperspb.Bool(true),
		SkipXffAppend:            true,
		ForwardClientCertDetails: hcmv3.HttpConnectionManager_SANITIZE,
		GenerateRequestId:        wrapperspb.Bool(true),

		// No normalisation of paths: what is decided on is what the agent sent,
		// byte for byte, and goes on unchanged. A path that can be read in two
		// ways is refused by the decision, in our words and on our record.
		NormalizePath:                wrapperspb.Bool(false),
		MergeSlashes:                 false,
		PathWithEscapedSlashesAction: hcmv3.HttpConnectionManager_KEEP_UNCHANGED,

		CommonHttpProtocolOptions:  common,
		Http2ProtocolOptions:       &corev3.Http2ProtocolOptions{MaxConcurrentStreams: wrapperspb.UInt32(256)},
		RequestHeadersTimeout:      durationpb.New(headersTimeout),
		StreamIdleTimeout:          durationpb.New(0), // a quiet stream is ended by its grant's time, not by quiet
		DelayedCloseTimeout:        durationpb.New(delayedClose),
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
		AccessLog:                  accessLogs(),
		LocalReplyConfig:           localReplies(),
	}
}

// stripFilter removes what a client must not say, before anything is decided.
// x-forwarded-proto stays until the route is chosen: without it nothing matches.
// grpc-timeout stays for the decision, which honours a shorter one. The rest of
// the allow-list is the decision's: it knows the destination.
func stripFilter() *hcmv3.HttpFilter {
	request := []*mutationv3.HeaderMutation{
		removeMatching(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "x-envoy-"}}),
		removeMatching(regex("x-forwarded-(for|host|port|prefix|client-cert|server|scheme|ssl)")),
	}
	for _, name := range []string{
		"authorization", "proxy-authorization", "proxy-connection", "x-real-ip", "forwarded", "via",
		"exeat-task", "exeat-task-credential", "exeat-decision",
	} {
		request = append(request, &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}})
	}
	// On an upgrade Connection goes on as it came: "Upgrade, authorization" would
	// have the upstream side drop the credential.
	request = append(request, &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{
		Append: &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: "connection", Value: "Upgrade"},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS,
		},
	}})
	return filter("envoy.filters.http.header_mutation", &headermutationv3.HeaderMutation{
		Mutations: &headermutationv3.Mutations{
			RequestMutations: request,
			// Nobody decides on trailers, so none leave.
			RequestTrailersMutations: []*mutationv3.HeaderMutation{removeMatching(regex(".*"))},
		},
	})
}

func routerFilter() *hcmv3.HttpFilter {
	return filter("envoy.filters.http.router", &routerv3.Router{SuppressEnvoyHeaders: true})
}

func removeMatching(m *matcherv3.StringMatcher) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{
		RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{KeyMatcher: m},
	}}
}

// regex matches a whole string by RE2.
func regex(pattern string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
		SafeRegex: &matcherv3.RegexMatcher{Regex: pattern},
	}}
}

func filter(name string, config proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(config)}}
}
