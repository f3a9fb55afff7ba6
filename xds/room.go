package xds

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	certmapperv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/cert_mappers/sni/v3"
	ondemandv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/cert_selectors/on_demand_secret/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/exeat-dev/exeat/policy"
)

// handshakeTimeout bounds a TLS handshake inside a tunnel.
const handshakeTimeout = 10 * time.Second

// roomListener is the internal listener of a task: one filter chain per host, one
// for what is not TLS, and a default one that says no to any other host in our
// words. Everything outside the chains is the same for the life of the task: a
// change there would cut every stream of the room.
func roomListener(task policy.TaskID, chains []chainID) *resource {
	name := policy.RoomName(task)
	l := &listenerv3.Listener{
		Name:              name,
		ListenerSpecifier: &listenerv3.Listener_InternalListener{InternalListener: &listenerv3.Listener_InternalListenerConfig{}},
		ListenerFilters: []*listenerv3.ListenerFilter{{
			Name:       "envoy.filters.listener.tls_inspector",
			ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: pack(&tlsinspectorv3.TlsInspector{})},
		}},
	}
	for _, c := range chains {
		switch c.host {
		case hostDefault:
			l.DefaultFilterChain = roomChain(task, c, nil, onDemandTLS())
		case hostPlain:
			l.FilterChains = append(l.FilterChains, roomChain(task, c,
				&listenerv3.FilterChainMatch{TransportProtocol: "raw_buffer"}, nil))
		default:
			l.FilterChains = append(l.FilterChains, roomChain(task, c,
				&listenerv3.FilterChainMatch{TransportProtocol: "tls", ServerNames: []string{c.host}}, leafTLS(c.leafName())))
		}
	}
	return newResource(name, l)
}

func roomChain(task policy.TaskID, c chainID, match *listenerv3.FilterChainMatch, tls *tlsv3.DownstreamTlsContext) *listenerv3.FilterChain {
	fc := &listenerv3.FilterChain{
		Name:             c.routeName(task),
		FilterChainMatch: match,
		Filters: []*listenerv3.Filter{{
			Name:       "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(connectionManager(c.routeName(task), c.host == hostDefault))},
		}},
	}
	if tls != nil {
		fc.TransportSocketConnectTimeout = durationpb.New(handshakeTimeout)
		fc.TransportSocket = &corev3.TransportSocket{
			Name:       "envoy.transport_sockets.tls",
			ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(tls)},
		}
	}
	return fc
}

// downstreamTLS is what the agent meets. Sessions are not resumed: a ticket would
// outlive the chain that it was made for.
func downstreamTLS(common *tlsv3.CommonTlsContext) *tlsv3.DownstreamTlsContext {
	common.AlpnProtocols = []string{"h2", "http/1.1"}
	common.TlsParams = &tlsv3.TlsParameters{
		TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2,
		TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
	}
	return &tlsv3.DownstreamTlsContext{
		CommonTlsContext:                 common,
		DisableStatefulSessionResumption: true,
		SessionTicketKeysType:            &tlsv3.DownstreamTlsContext_DisableStatelessSessionResumption{DisableStatelessSessionResumption: true},
	}
}

// leafTLS shows the host's own leaf, which comes and rotates by SDS.
func leafTLS(secret string) *tlsv3.DownstreamTlsContext {
	return downstreamTLS(&tlsv3.CommonTlsContext{
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{Name: secret, SdsConfig: adsSource()}},
	})
}

// onDemandTLS asks for a certificate by the name that the client sent, so that a
// host that is not granted gets an answer over TLS and not an error of TLS.
func onDemandTLS() *tlsv3.DownstreamTlsContext {
	return downstreamTLS(&tlsv3.CommonTlsContext{
		CustomTlsCertificateSelector: &corev3.TypedExtensionConfig{
			Name: "on_demand",
			TypedConfig: pack(&ondemandv3.Config{
				ConfigSource: &corev3.ConfigSource{
					ResourceApiVersion:  corev3.ApiVersion_V3,
					InitialFetchTimeout: durationpb.New(2 * time.Second),
					ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{ApiConfigSource: &corev3.ApiConfigSource{
						ApiType:             corev3.ApiConfigSource_DELTA_GRPC,
						TransportApiVersion: corev3.ApiVersion_V3,
						GrpcServices:        []*corev3.GrpcService{grpcService(clusterControl, 2*time.Second)},
					}},
				},
				CertificateMapper: &corev3.TypedExtensionConfig{
					Name:        "sni",
					TypedConfig: pack(&certmapperv3.SNI{DefaultValue: tokenNoSNI}),
				},
			}),
		},
	})
}

// adsSource says: over the stream that this came on.
func adsSource() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		// Nothing goes into force by waiting: what has not come holds its chain back.
		InitialFetchTimeout: durationpb.New(0),
	}
}

// grpcService is a gRPC service of the control plane, by mTLS with the sidecar's
// own SVID.
func grpcService(cluster string, timeout time.Duration) *corev3.GrpcService {
	return &corev3.GrpcService{
		TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: cluster}},
		Timeout:         durationpb.New(timeout),
	}
}
