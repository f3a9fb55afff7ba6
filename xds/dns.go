package xds

import (
	"net/netip"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	dfpclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dynamic_forward_proxy/v3"
	dnscachev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/dynamic_forward_proxy/v3"
	dfpfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_forward_proxy/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// resolveByDNS makes a cluster resolve its host when a call needs it. An ordinary
// DNS cluster is not in force until its first answer came, and nothing in xDS
// says when that is: the first call after ready would fail. This one makes the
// call wait for the answer instead. It also takes a filter on the addresses: no
// name leads to a loopback or private address, whoever controls its DNS.
//
// What is resolved is the call's authority, which the route table has matched
// against this host; the server name and the certificate check stay fixed.
func resolveByDNS(c *clusterv3.Cluster) {
	c.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED
	c.ClusterDiscoveryType = &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
		Name: "envoy.clusters.dynamic_forward_proxy",
		TypedConfig: pack(&dfpclusterv3.ClusterConfig{
			ClusterImplementationSpecifier: &dfpclusterv3.ClusterConfig_DnsCacheConfig{DnsCacheConfig: dnsCache()},
			// "Insecure" means that names are not taken from the call: they are fixed here.
			AllowInsecureClusterOptions: true,
		}),
	}}
}

// resolveFilter holds a call until its host is resolved. For a cluster that is
// not resolved by DNS it does nothing.
func resolveFilter() *hcmv3.HttpFilter {
	return filter("envoy.filters.http.dynamic_forward_proxy", &dfpfilterv3.FilterConfig{
		ImplementationSpecifier: &dfpfilterv3.FilterConfig_DnsCacheConfig{DnsCacheConfig: dnsCache()},
	})
}

// dnsCache is one cache for the whole sidecar; every mention must be the same.
func dnsCache() *dnscachev3.DnsCacheConfig {
	return &dnscachev3.DnsCacheConfig{
		Name:                       "exeat",
		DnsLookupFamily:            clusterv3.Cluster_ALL, // both families, raced (RFC 8305)
		MaxHosts:                   wrapperspb.UInt32(4096),
		DnsQueryTimeout:            durationpb.New(connectTimeout),
		DisableDnsRefreshOnFailure: true, // the next call asks again
		ResolvedAddressFilter:      &matcherv3.AddressMatcher{Ranges: innerRanges()},
	}
}

// inner are the addresses that DNS must not lead to. Of IPv4, what is not
// globally reachable (RFC 6890), and multicast; of IPv6, all but 2000::/3, the
// only global unicast there is, and less Teredo and 6to4, which embed IPv4
// addresses. NAT64 (RFC 6052) has its range too, and is let through except for
// what it embeds of the first kind: some networks have no other way out. Each
// range costs a line of work in every chain, so there are few.
var inner = [...]string{
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3",
	"::/16", "64:ff9b:1::/48", "2001::/32", "2002::/16", "4000::/2", "8000::/1",
	"64:ff9b::/104", "64:ff9b::a00:0/104", "64:ff9b::6440:0/106", "64:ff9b::7f00:0/104",
	"64:ff9b::a9fe:0/112", "64:ff9b::ac10:0/108", "64:ff9b::c0a8:0/112",
}

func innerRanges() []*xdscorev3.CidrRange {
	var out []*xdscorev3.CidrRange
	for _, text := range inner {
		out = append(out, cidr(netip.MustParsePrefix(text)))
	}
	return out
}

func cidr(p netip.Prefix) *xdscorev3.CidrRange {
	return &xdscorev3.CidrRange{AddressPrefix: p.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(p.Bits()))}
}
