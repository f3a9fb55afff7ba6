package xds

import (
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/exeat-dev/exeat/policy"
)

// accessLogs tells the control plane how each call ended. Unbuffered: an entry
// that waits in Envoy is lost with it. One log name for all: each name costs a
// stream, and the entry says itself which room and server name it was.
func accessLogs() []*accesslogv3.AccessLog {
	return []*accesslogv3.AccessLog{{
		Name: "envoy.access_loggers.http_grpc",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: pack(&grpclogv3.HttpGrpcAccessLogConfig{
			CommonConfig: &grpclogv3.CommonGrpcAccessLogConfig{
				LogName:             policy.AccessLogName,
				TransportApiVersion: corev3.ApiVersion_V3,
				GrpcService:         grpcService(clusterAuthz, 5*time.Second),
				BufferSizeBytes:     wrapperspb.UInt32(0),
				BufferFlushInterval: durationpb.New(50 * time.Millisecond),
			},
			AdditionalRequestHeadersToLog: []string{"x-request-id"},
		})},
	}}
}

// localReplies gives two failures that have no answer of ours the form that every
// other denial has: a Check without an answer, and an absolute form that says
// https on a connection without TLS.
func localReplies() *hcmv3.LocalReplyConfig {
	return &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{
		localReply("ext_authz_error", problem{
			reason: policy.Internal, status: 503, title: "The call could not be decided on", retry: policy.RetryAfter,
		}),
		localReply("http1.https_url_on_plaintext_connection", problem{
			reason: policy.MalformedCall, status: 400, title: "An https URL needs TLS within the tunnel", retry: policy.RetryNever,
		}),
	}}
}

// localReply words what Envoy answers with these details, its own name for why.
func localReply(details string, p problem) *hcmv3.ResponseMapper {
	return &hcmv3.ResponseMapper{
		Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
			ExtensionFilter: &accesslogv3.ExtensionFilter{
				Name: "envoy.access_loggers.extension_filters.cel",
				ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: pack(&celv3.ExpressionFilter{
					Expression: `response.code_details == "` + details + `"`,
				})},
			},
		}},
		StatusCode: wrapperspb.UInt32(p.status),
		HeadersToAdd: []*corev3.HeaderValueOption{
			setHeader("x-request-id", "%REQ(X-REQUEST-ID)%"),
		},
		BodyFormatOverride: &corev3.SubstitutionFormatString{
			Format:      &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: &structpb.Struct{Fields: problemFields(p)}},
			ContentType: problemType,
		},
	}
}
