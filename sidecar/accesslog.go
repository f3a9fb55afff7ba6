package sidecar

import (
	"net/http"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// accessLogName is the one log name of all that a sidecar reports: another one
// would cost another stream.
const accessLogName = "exeat"

// turnedAway reports what the egress listener refused, which no room ever sees.
// Proxy-Authorization is never listed: what is logged there would be a secret.
func turnedAway() []*accesslogv3.AccessLog {
	refused := &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_StatusCodeFilter{
		StatusCodeFilter: &accesslogv3.StatusCodeFilter{Comparison: &accesslogv3.ComparisonFilter{
			Op:    accesslogv3.ComparisonFilter_EQ,
			Value: &corev3.RuntimeUInt32{DefaultValue: http.StatusProxyAuthRequired, RuntimeKey: "exeat.turned_away"},
		}},
	}}
	return []*accesslogv3.AccessLog{{
		Name:   "envoy.access_loggers.http_grpc",
		Filter: refused,
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: pack(&grpclogv3.HttpGrpcAccessLogConfig{
			CommonConfig: &grpclogv3.CommonGrpcAccessLogConfig{
				LogName:             accessLogName,
				TransportApiVersion: corev3.ApiVersion_V3,
				GrpcService: &corev3.GrpcService{
					TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: clusterAuthz}},
					Timeout:         durationpb.New(5 * time.Second),
				},
				BufferSizeBytes:     wrapperspb.UInt32(0),
				BufferFlushInterval: durationpb.New(50 * time.Millisecond),
			},
		})},
	}}
}
