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

// inner are the addresses that DNS must not lead to: not globally reachable in
// the sense of RFC 6890, and multicast. 6to4 and Teredo embed other addresses.
var inner = [...]string{
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
	"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"::/128", "::1/128", "64:ff9b:1::/48", "100::/64", "2001::/32", "2001:db8::/32", "2002::/16",
	"fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
}

// innerRanges is inner, and the IPv4 ones again in the two forms in which IPv6
// carries them: mapped (RFC 4291 section 2.5.5.2) and NAT64 (RFC 6052).
func innerRanges() []*xdscorev3.CidrRange {
	var out []*xdscorev3.CidrRange
	for _, text := range inner {
		p := netip.MustParsePrefix(text)
		out = append(out, cidr(p))
		if !p.Addr().Is4() {
			continue
		}
		for _, prefix := range [...]string{"::ffff:0.0.0.0", "64:ff9b::"} {
			b := netip.MustParseAddr(prefix).As16()
			v4 := p.Addr().As4()
			copy(b[12:], v4[:])
			out = append(out, cidr(netip.PrefixFrom(netip.AddrFrom16(b), 96+p.Bits())))
		}
	}
	return out
}

func cidr(p netip.Prefix) *xdscorev3.CidrRange {
	return &xdscorev3.CidrRange{AddressPrefix: p.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(p.Bits()))}
}
