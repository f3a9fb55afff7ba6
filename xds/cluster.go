package xds

import (
	"net/netip"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/exeat-dev/exeat/policy"
)

const (
	connectTimeout = 5 * time.Second
	poolIdle       = time.Minute
	httpOptions    = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
)

// upstreamCluster reaches one host of a destination. roots is the file of system
// roots on the sidecar's machine, for destinations that name no CA.
func upstreamCluster(u Upstream, roots string) *resource {
	d := u.Destination
	c := &clusterv3.Cluster{
		Name:            upstreamName(d.Name, u.Host),
		ConnectTimeout:  durationpb.New(connectTimeout),
		CircuitBreakers: breakers(4096),
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			httpOptions: pack(upstreamHTTP(d.Plain)),
		},
	}
	if len(d.Addresses) > 0 {
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
		c.LoadAssignment = staticEndpoints(c.Name, d)
	} else {
		resolveByDNS(c)
	}
	if !d.Plain {
		c.TransportSocket = &corev3.TransportSocket{
			Name:       "envoy.transport_sockets.tls",
			ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(upstreamTLS(u, roots))},
		}
	}
	return newResource(c.Name, c)
}

// upstreamHTTP: HTTP/2 where the upstream agrees to it by ALPN (RFC 7301), else
// HTTP/1.1; without TLS there is no ALPN.
func upstreamHTTP(plain bool) *httpv3.HttpProtocolOptions {
	o := &httpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(poolIdle)},
	}
	if plain {
		o.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
					HttpProtocolOptions: &corev3.Http1ProtocolOptions{},
				},
			},
		}
		return o
	}
	o.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_AutoConfig{
		AutoConfig: &httpv3.HttpProtocolOptions_AutoHttpConfig{
			HttpProtocolOptions:  &corev3.Http1ProtocolOptions{},
			Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
		},
	}
	return o
}

// upstreamTLS: TLS 1.2 or later, the server name sent and the one checked (RFC
// 6125) are the host's, whatever the call says.
func upstreamTLS(u Upstream, roots string) *tlsv3.UpstreamTlsContext {
	ca := &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: roots}}
	if u.Destination.CAPEM != "" {
		ca.Specifier = &corev3.DataSource_InlineBytes{InlineBytes: []byte(u.Destination.CAPEM)}
	}
	return &tlsv3.UpstreamTlsContext{
		Sni: u.Host,
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams: &tlsv3.TlsParameters{
				TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2,
				TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
			},
			ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{
				ValidationContext: &tlsv3.CertificateValidationContext{
					TrustedCa: ca,
					MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
						SanType: tlsv3.SubjectAltNameMatcher_DNS,
						Matcher: &matcherv3.StringMatcher{
							MatchPattern: &matcherv3.StringMatcher_Exact{Exact: u.Host},
						},
					}},
				},
			},
		},
	}
}

// staticEndpoints dials the destination's addresses instead of what DNS says. An
// address without a port takes the destination's; one that is not an IP is left
// out, and with none left every call fails.
func staticEndpoints(cluster string, d policy.Destination) *endpointv3.ClusterLoadAssignment {
	var endpoints []*endpointv3.LbEndpoint
	for _, text := range d.Addresses {
		ap, err := netip.ParseAddrPort(text)
		if err != nil {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				continue
			}
			ap = netip.AddrPortFrom(addr, d.Port)
		}
		endpoints = append(endpoints, endpoint(&corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{
				Address:       ap.Addr().String(),
				PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(ap.Port())},
			},
		}}))
	}
	return assignment(cluster, endpoints...)
}

// roomCluster leads from the egress listener into a task's room.
func roomCluster(task policy.TaskID) *resource {
	name := policy.RoomName(task)
	return newResource(name, &clusterv3.Cluster{
		Name:                 name,
		ConnectTimeout:       durationpb.New(connectTimeout),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		CircuitBreakers:      breakers(16384), // a tunnel is a connection for as long as the agent keeps it
		LoadAssignment: assignment(name, endpoint(&corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{
			EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
				AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: name},
			},
		}})),
	})
}

func endpoint(a *corev3.Address) *endpointv3.LbEndpoint {
	return &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
		Endpoint: &endpointv3.Endpoint{Address: a},
	}}
}

func assignment(cluster string, endpoints ...*endpointv3.LbEndpoint) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{
		ClusterName: cluster,
		Endpoints:   []*endpointv3.LocalityLbEndpoints{{LbEndpoints: endpoints}},
	}
}

func breakers(limit uint32) *clusterv3.CircuitBreakers {
	n := wrapperspb.UInt32(limit)
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections: n, MaxPendingRequests: n, MaxRequests: n,
	}}}
}
