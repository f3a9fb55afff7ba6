package sidecar

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

// egressListener is the agent's forward proxy. It decides nothing: its route
// table, which says who may enter which room, comes from the control plane.
func (b blueprint) egressListener() *listenerv3.Listener {
	hcm := baseManager("egress", "The task's configuration is not in force")
	hcm.RouteSpecifier = &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
		RouteConfigName: routeEgress,
		ConfigSource: &corev3.ConfigSource{
			ResourceApiVersion:    corev3.ApiVersion_V3,
			ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
			// Without a bound: Envoy is not LIVE before the table has come.
			InitialFetchTimeout: durationpb.New(0),
		},
	}}
	// Python's http.client and OpenSSL ask by HTTP/1.0.
	hcm.HttpProtocolOptions = &corev3.Http1ProtocolOptions{AcceptHttp_10: true}
	hcm.UpgradeConfigs = []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "CONNECT"}, {UpgradeType: "websocket"}}
	// What comes before the 200 was not written for the tunnel. Envoy sees it only
	// when the room takes a moment to open; else the room reads it like all that
	// comes after the 200, and judges it as such.
	hcm.HttpFilters = []*hcmv3.HttpFilter{router(&routerv3.Router{RejectConnectRequestEarlyData: yes(), SuppressEnvoyHeaders: true})}
	hcm.AccessLog = turnedAway()
	return listener(listenerEgress, b.egress, hcm)
}

// apiListener is EXEAT_URL: the agent's own way to the API.
func (b blueprint) apiListener() *listenerv3.Listener {
	return listener(listenerAPI, b.apiListen, apiManager("api", loopbackHost(b.apiListen), true))
}

// apiInternalListener is the same for rooms, which say for which task: so it
// believes exeat-task, and nobody but a room can reach it.
func (b blueprint) apiInternalListener() *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:              clusterAPIInternal,
		ListenerSpecifier: &listenerv3.Listener_InternalListener{InternalListener: &listenerv3.Listener_InternalListenerConfig{}},
		FilterChains:      chain(apiManager("api_internal", roomHost, false)),
	}
}

func listener(name string, at listenAddress, hcm *hcmv3.HttpConnectionManager) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:         name,
		Address:      socketAddress(at.ip.String(), at.port),
		FilterChains: chain(hcm),
		// With it any process of the same user could take a share of the agent's
		// connections, proxy credentials included, by listening on the same port.
		EnableReusePort: no(),
	}
}

func chain(hcm *hcmv3.HttpConnectionManager) []*listenerv3.FilterChain {
	return []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
		Name:       "envoy.filters.network.http_connection_manager",
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(hcm)},
	}}}}
}

// baseManager is what all three listeners have in common.
func baseManager(name, unreachable string) *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		StatPrefix: name,
		// Proxies and loopback URLs are spoken to in HTTP/1; no gRPC without HTTP/2.
		CodecType: hcmv3.HttpConnectionManager_HTTP1,
		// An agent is an untrusted client: what only a proxy in front may say is
		// dropped, and nothing about it is told upstream.
		UseRemoteAddress:           yes(),
		SkipXffAppend:              true,
		GenerateRequestId:          no(),
		ForwardClientCertDetails:   hcmv3.HttpConnectionManager_SANITIZE,
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
		// 1 s, the default, would hide an end of stream for that long; 0 would lose
		// an answer that is given while the client still sends.
		DelayedCloseTimeout: seconds(0.1),
		// Streams and long polls may be silent for as long as they like.
		StreamIdleTimeout:     durationpb.New(0),
		RequestHeadersTimeout: seconds(10),
		LocalReplyConfig:      localReplies(unreachable),
	}
}

func router(config *routerv3.Router) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{
		Name:       "envoy.filters.http.router",
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(config)},
	}
}

func inlineRoutes(name string, routes []*routev3.Route) *hcmv3.HttpConnectionManager_RouteConfig {
	return &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
		Name:         name,
		VirtualHosts: []*routev3.VirtualHost{{Name: name, Domains: []string{"*"}, Routes: routes}},
	}}
}
