package xds

import (
	"context"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/exeat-dev/exeat/policy"
)

const denialBody = `{"reason":"no_grant"}`

// authz is a decision service that a test scripts, and an access log.
type authz struct {
	alsv3.UnimplementedAccessLogServiceServer
	mu      sync.Mutex
	decide  func(*authv3.CheckRequest) *authv3.CheckResponse
	checks  []*authv3.CheckRequest
	entries chan *accesslogv3.HTTPAccessLogEntry
}

func newAuthz() *authz {
	return &authz{decide: allowGranted, entries: make(chan *accesslogv3.HTTPAccessLogEntry, 1000)}
}

func (a *authz) set(fn func(*authv3.CheckRequest) *authv3.CheckResponse) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.decide = fn
}

func (a *authz) Check(_ context.Context, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	a.mu.Lock()
	a.checks = append(a.checks, req)
	decide := a.decide
	a.mu.Unlock()
	resp := decide(req)
	if resp == nil {
		return nil, errGone
	}
	return resp, nil
}

func (a *authz) last() *authv3.CheckRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.checks[len(a.checks)-1]
}

func (a *authz) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.checks)
}

func (a *authz) StreamAccessLogs(s alsv3.AccessLogService_StreamAccessLogsServer) error {
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		for _, e := range m.GetHttpLogs().GetLogEntry() {
			a.entries <- e
		}
	}
}

// allowGranted says yes on chains of a destination and in clear text, as the
// real service does once it has found a grant.
func allowGranted(req *authv3.CheckRequest) *authv3.CheckResponse {
	switch req.GetAttributes().GetContextExtensions()[policy.ExtensionDestination] {
	case "", policy.DestinationNone:
		return deny()
	}
	return allow("60000m")
}

func allow(limit string) *authv3.CheckResponse {
	return &authv3.CheckResponse{
		Status: &statuspb.Status{Code: int32(codes.OK)},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: []*corev3.HeaderValueOption{setHeader("grpc-timeout", limit), setHeader("authorization", "Bearer minted")},
		}},
		DynamicMetadata: decisionMetadata("d_allowed"),
	}
}

func deny() *authv3.CheckResponse {
	return &authv3.CheckResponse{
		Status: &statuspb.Status{Code: int32(codes.PermissionDenied)},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status:  &typev3.HttpStatus{Code: typev3.StatusCode_Forbidden},
			Headers: []*corev3.HeaderValueOption{setHeader("content-type", problemType)},
			Body:    denialBody,
		}},
		DynamicMetadata: decisionMetadata("d_denied"),
	}
}

func decisionMetadata(id string) *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{"decision": structpb.NewStringValue(id)}}
}

type (
	checkRequest  = authv3.CheckRequest
	checkResponse = authv3.CheckResponse
)

// answer says yes with a time limit.
func answer(limit string) func(*checkRequest) *checkResponse {
	return func(*checkRequest) *checkResponse { return allow(limit) }
}
