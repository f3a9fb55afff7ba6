package xds

import (
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/exeat-dev/exeat/policy"
)

const (
	authzName = "envoy.filters.http.ext_authz"
	// checkTimeout bounds one Check; promise 2 counts it.
	checkTimeout = time.Second
)

// authzFilter asks for a decision on each call. Anything but a clear yes denies:
// no answer, a late one, one with a header that is not well formed.
func authzFilter() *hcmv3.HttpFilter {
	return filter(authzName, &extauthzv3.ExtAuthz{
		Services:            &extauthzv3.ExtAuthz_GrpcService{GrpcService: authzService()},
		TransportApiVersion: corev3.ApiVersion_V3,
		StatPrefix:          "exeat",
		FailureModeAllow:    false,
		StatusOnError:       &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
		// The route is chosen again after the answer: only then does Envoy start
		// the timer that the answer's grpc-timeout sets.
		ClearRouteCache:   true,
		ValidateMutations: true,
		EncodeRawHeaders:  true, // two values of a header stay two
		// One byte tells whether there is a body, which nothing else does over
		// HTTP/2: without this a call that may have none could carry one.
		WithRequestBody: &extauthzv3.BufferSettings{
			MaxRequestBytes: 1, AllowPartialMessage: true, PackAsBytes: true,
		},
		IncludeTlsSession: true, // the server name, to compare with the authority
	})
}

// authzService asks another replica when one died or drains while it had the
// Check. That is safe: the request's own ID makes a second Check the same one.
// One that gave an answer is never asked again, whatever it was.
func authzService() *corev3.GrpcService {
	s := grpcService(clusterAuthz, checkTimeout)
	s.RetryPolicy = &corev3.RetryPolicy{
		RetryOn:    "connect-failure,refused-stream,reset",
		NumRetries: wrapperspb.UInt32(2),
		// Envoy takes the longest interval for the timeout of each try, too: a
		// shorter one would have it ask again while a slow answer is on its way.
		RetryBackOff: &corev3.BackoffStrategy{
			BaseInterval: durationpb.New(10 * time.Millisecond), MaxInterval: durationpb.New(checkTimeout),
		},
		RetryHostPredicate: []*corev3.RetryPolicy_RetryHostPredicate{{
			Name:       "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &corev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: pack(&previoushostsv3.PreviousHostsPredicate{})},
		}},
		HostSelectionRetryMaxAttempts: 3,
	}
	return s
}

// checkSettings puts on every Check where it comes from. It is configuration, so
// nothing that the agent sends can change it.
func checkSettings(task policy.TaskID, agent, destination string, cut int64) map[string]*anypb.Any {
	return map[string]*anypb.Any{authzName: pack(&extauthzv3.ExtAuthzPerRoute{
		Override: &extauthzv3.ExtAuthzPerRoute_CheckSettings{CheckSettings: &extauthzv3.CheckSettings{
			ContextExtensions: map[string]string{
				policy.ExtensionTask:        string(task),
				policy.ExtensionAgent:       agent,
				policy.ExtensionDestination: destination,
				policy.ExtensionCut:         strconv.FormatInt(cut, 10),
			},
		}},
	})}
}

// uncheckedAPI lets calls to our own API through: it judges them itself.
func uncheckedAPI() map[string]*anypb.Any {
	return map[string]*anypb.Any{authzName: pack(&extauthzv3.ExtAuthzPerRoute{
		Override: &extauthzv3.ExtAuthzPerRoute_Disabled{Disabled: true},
	})}
}
