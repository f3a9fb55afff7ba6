package sidecar

import (
	"os"
	"path/filepath"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	internallistenerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/exeat-dev/exeat/identity"
)

// Names that the control plane's configuration refers to.
const (
	clusterControl     = "exeat"        // gRPC: ADS, SDS
	clusterAuthz       = "exeat_authz"  // gRPC: ext_authz, access logs
	clusterAPI         = "api"          // the HTTP API
	clusterAPIInternal = "api_internal" // the API's listener for rooms
	clusterIdentity    = "identity"     // our own SDS socket
	listenerEgress     = "egress"
	listenerAPI        = "api"
	routeEgress        = "egress"
)

// Files in the run folder.
const (
	bootstrapFile  = "bootstrap.json"
	adminSocket    = "admin.sock"
	identitySocket = "identity.sock"
)

// maxConnections bounds what an agent can make its own sidecar hold open.
const maxConnections = 4096

// blueprint is all that the bootstrap depends on.
type blueprint struct {
	dir        string // the run folder
	instance   identity.ID
	grpcServer identity.ID // whom the control plane must prove to be
	apiServer  identity.ID
	servers
	egress    listenAddress
	apiListen listenAddress
}

// write puts the bootstrap into the run folder, readable by this user alone.
func (b blueprint) write() (string, error) {
	config := b.bootstrap()
	if err := config.ValidateAll(); err != nil {
		return "", err
	}
	data, err := protojson.Marshal(config)
	if err != nil {
		return "", err
	}
	path := filepath.Join(b.dir, bootstrapFile)
	return path, replaceFile(path, data, 0o600)
}

func (b blueprint) bootstrap() *bootstrapv3.Bootstrap {
	return &bootstrapv3.Bootstrap{
		// The node's name is for people who read: the control plane goes by the
		// certificate alone.
		Node:  &corev3.Node{Id: b.instance.String(), Cluster: "exeat-sidecar"},
		Admin: b.admin(),
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{
			Clusters: []*clusterv3.Cluster{
				b.identityCluster(), b.controlCluster(), b.authzCluster(), b.apiCluster(), b.apiInternalCluster(),
			},
			Listeners: []*listenerv3.Listener{b.egressListener(), b.apiListener(), b.apiInternalListener()},
		},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{
			AdsConfig: &corev3.ApiConfigSource{
				ApiType:                   corev3.ApiConfigSource_DELTA_GRPC,
				TransportApiVersion:       corev3.ApiVersion_V3,
				SetNodeOnFirstMessageOnly: true,
				GrpcServices:              []*corev3.GrpcService{grpcService(clusterControl)},
			},
			CdsConfig: adsSource(),
			LdsConfig: adsSource(),
		},
		StatsConfig:     statsConfig(),
		LayeredRuntime:  strictness(),
		OverloadManager: overloadManager(),
		BootstrapExtensions: []*corev3.TypedExtensionConfig{{
			Name: "envoy.bootstrap.internal_listener", TypedConfig: pack(&internallistenerv3.InternalListener{}),
		}},
	}
}

// admin is on a Unix socket in the run folder, and answers only what the
// supervisor asks: even there nothing can be changed or dumped.
func (b blueprint) admin() *bootstrapv3.Admin {
	var allowed []*matcherv3.StringMatcher
	for _, path := range []string{adminReady, adminListeners, adminConnected, adminMetrics} {
		allowed = append(allowed, exact(path))
	}
	return &bootstrapv3.Admin{Address: pipe(filepath.Join(b.dir, adminSocket), 0o600), AllowPaths: allowed}
}

// statsConfig keeps what tells how the sidecar is; the default set would cost
// more memory than everything else for each destination.
func statsConfig() *metricsv3.StatsConfig {
	patterns := []*matcherv3.StringMatcher{{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
		SafeRegex: &matcherv3.RegexMatcher{Regex: `http\..*\.ext_authz\..*`},
	}}}
	for _, p := range []string{"control_plane.", "listener_manager.", "cluster_manager.", "server.", "cluster.exeat.", "cluster.exeat_authz."} {
		patterns = append(patterns, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: p}})
	}
	return &metricsv3.StatsConfig{StatsMatcher: &metricsv3.StatsMatcher{StatsMatcher: &metricsv3.StatsMatcher_InclusionList{
		InclusionList: &matcherv3.ListStringMatcher{Patterns: patterns},
	}}}
}

// strictness has Envoy refuse what it would read in a lenient way. Without it a
// chunk may be longer than its size says, and what is over is skipped: another
// reader would take it for the next chunk (RFC 9112 section 7.1). Nothing but
// this file can change it: there is no layer above.
func strictness() *bootstrapv3.LayeredRuntime {
	return &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
		Name: "strictness",
		LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: &structpb.Struct{Fields: map[string]*structpb.Value{
			"envoy.reloadable_features.strict_chunk_parsing": structpb.NewBoolValue(true),
		}}},
	}}}
}

// overloadManager refuses connections over a bound instead of running out of
// file descriptors, of which the control plane's own connections need some.
func overloadManager() *overloadv3.OverloadManager {
	return &overloadv3.OverloadManager{ResourceMonitors: []*overloadv3.ResourceMonitor{{
		Name: "envoy.resource_monitors.global_downstream_max_connections",
		ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: pack(
			&connectionsv3.DownstreamConnectionsConfig{MaxActiveDownstreamConnections: maxConnections})},
	}}}
}

// adsSource says that a resource comes over the one ADS stream.
func adsSource() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
}

func grpcService(cluster string) *corev3.GrpcService {
	return &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
		EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: cluster},
	}}
}

func pipe(path string, mode os.FileMode) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path, Mode: uint32(mode)}}}
}

func socketAddress(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

func internalAddress(listener string) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
		AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: listener},
	}}}
}

func exact(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: s}}
}

func seconds(n float64) *durationpb.Duration {
	return durationpb.New(time.Duration(n * float64(time.Second)))
}

func yes() *wrapperspb.BoolValue { return wrapperspb.Bool(true) }
func no() *wrapperspb.BoolValue  { return wrapperspb.Bool(false) }

// pack puts a message of this program's own making into an Any. It cannot fail:
// marshalling does so only for strings that are no UTF-8, and every string here
// was parsed before.
func pack(m proto.Message) *anypb.Any {
	packed, err := anypb.New(m)
	if err != nil {
		return &anypb.Any{} // Envoy refuses it, so that nothing runs with a part missing
	}
	return packed
}
