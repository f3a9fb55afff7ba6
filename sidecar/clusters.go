package sidecar

import (
	"path/filepath"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/exeat-dev/exeat/identity"
)

// controlCluster is the gRPC servers of xDS and SDS.
func (b blueprint) controlCluster() *clusterv3.Cluster {
	return b.remoteCluster(clusterControl, b.grpc, b.grpcServer)
}

// authzCluster is the gRPC servers of ext_authz and access logs. Each is asked
// whether it can decide: one whose state is stale answers, but only ever no.
func (b blueprint) authzCluster() *clusterv3.Cluster {
	c := b.remoteCluster(clusterAuthz, b.authz, b.grpcServer)
	if len(b.authz) > 1 {
		c.HealthChecks = []*corev3.HealthCheck{{
			Timeout: seconds(1), Interval: seconds(2), NoTrafficInterval: seconds(5), IntervalJitter: seconds(0.5),
			UnhealthyThreshold: wrapperspb.UInt32(1), HealthyThreshold: wrapperspb.UInt32(1),
			HealthChecker: &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{}},
		}}
	}
	return c
}

// apiCluster is the HTTP API, servers with another SPIFFE ID.
func (b blueprint) apiCluster() *clusterv3.Cluster {
	return b.remoteCluster(clusterAPI, b.api, b.apiServer)
}

// apiInternalCluster leads from a room to the API's listener for rooms.
func (b blueprint) apiInternalCluster() *clusterv3.Cluster {
	return cluster(clusterAPIInternal, clusterv3.Cluster_STATIC, internalAddress(clusterAPIInternal))
}

// identityCluster is the SDS socket of the program that started this Envoy.
func (b blueprint) identityCluster() *clusterv3.Cluster {
	c := cluster(clusterIdentity, clusterv3.Cluster_STATIC, pipe(filepath.Join(b.dir, identitySocket), 0))
	c.TypedExtensionProtocolOptions = http2(&corev3.Http2ProtocolOptions{})
	return c
}

// remoteCluster is servers that stand in for each other. The keepalive finds a
// dead connection before many calls have waited for it.
func (b blueprint) remoteCluster(name string, to []endpoint, server identity.ID) *clusterv3.Cluster {
	kind := clusterv3.Cluster_STATIC
	var addresses []*corev3.Address
	for _, e := range to {
		if !e.isIP() {
			kind = clusterv3.Cluster_STRICT_DNS
		}
		addresses = append(addresses, socketAddress(e.host, e.port))
	}
	c := cluster(name, kind, addresses...)
	c.TransportSocket = b.mutualTLS(to[0], server)
	c.TypedExtensionProtocolOptions = http2(&corev3.Http2ProtocolOptions{
		ConnectionKeepalive: &corev3.KeepaliveSettings{Interval: seconds(5), Timeout: seconds(2)},
	})
	if len(to) > 1 {
		c.OutlierDetection = outliers()
	}
	return c
}

// outliers leaves out a server that cannot be reached, for a second at first.
// What servers answer is never held against them, and when none is left all are
// tried.
func outliers() *clusterv3.OutlierDetection {
	return &clusterv3.OutlierDetection{
		SplitExternalLocalOriginErrors:         true,
		ConsecutiveLocalOriginFailure:          wrapperspb.UInt32(1),
		EnforcingConsecutiveLocalOriginFailure: wrapperspb.UInt32(100),
		EnforcingLocalOriginSuccessRate:        wrapperspb.UInt32(0),
		EnforcingConsecutive_5Xx:               wrapperspb.UInt32(0),
		EnforcingConsecutiveGatewayFailure:     wrapperspb.UInt32(0),
		EnforcingSuccessRate:                   wrapperspb.UInt32(0),
		Interval:                               seconds(0.5),
		BaseEjectionTime:                       seconds(1),
		MaxEjectionTime:                        seconds(10),
		MaxEjectionPercent:                     wrapperspb.UInt32(100),
	}
}

func cluster(name string, kind clusterv3.Cluster_DiscoveryType, addresses ...*corev3.Address) *clusterv3.Cluster {
	var hosts []*endpointv3.LbEndpoint
	for _, a := range addresses {
		hosts = append(hosts, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: a}},
		})
	}
	return &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: kind},
		ConnectTimeout:       seconds(2),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints:   []*endpointv3.LocalityLbEndpoints{{LbEndpoints: hosts}},
		},
	}
}

func http2(options *corev3.Http2ProtocolOptions) map[string]*anypb.Any {
	return map[string]*anypb.Any{
		"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": pack(&httpv3.HttpProtocolOptions{
			UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
				ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
					ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: options},
				},
			},
		}),
	}
}

// mutualTLS shows the sidecar's own SVID and accepts one SPIFFE ID at the other
// end. Key and roots come by SDS, so that they rotate without a restart and are
// in no file.
func (b blueprint) mutualTLS(to endpoint, server identity.ID) *corev3.TransportSocket {
	sni := to.host
	if to.isIP() {
		sni = "exeat" // RFC 6066, section 3: an address is no server name
	}
	config := &tlsv3.UpstreamTlsContext{
		Sni: sni,
		// No resumption: an old session would carry an old SVID on.
		MaxSessionKeys: wrapperspb.UInt32(0),
		CommonTlsContext: &tlsv3.CommonTlsContext{
			AlpnProtocols: []string{"h2"},
			TlsParams: &tlsv3.TlsParameters{
				TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
				TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
			},
			TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{identitySecret(identity.SecretDefault)},
			ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{
				CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
					DefaultValidationContext: &tlsv3.CertificateValidationContext{
						MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
							SanType: tlsv3.SubjectAltNameMatcher_URI, Matcher: exact(server.String()),
						}},
					},
					ValidationContextSdsSecretConfig: identitySecret(identity.SecretRoots),
				},
			},
		},
	}
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(config)},
	}
}

// identitySecret is asked for as SPIRE's agent understands it: by state of the
// world, over a stream of its own.
func identitySecret(name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: &corev3.ConfigSource{
		ResourceApiVersion: corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{ApiConfigSource: &corev3.ApiConfigSource{
			ApiType:             corev3.ApiConfigSource_GRPC,
			TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices:        []*corev3.GrpcService{grpcService(clusterIdentity)},
		}},
	}}
}
