package proxy

import (
	"slices"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/exeat-dev/exeat/credential"
	"github.com/exeat-dev/exeat/policy"
)

const (
	headerTimeout    = "grpc-timeout"
	headerConnection = "connection"

	// retryAfter is how long to wait where waiting helps: what was denied for
	// is over by then, or lasts.
	retryAfter = time.Second

	// Keys of the dynamic metadata under ext_authz's namespace, which come back
	// in the access log.
	metaDecision   = "decision"
	metaGrant      = "grant"
	metaUse        = "use"        // of a grant with limits, to be settled
	metaUnrecorded = "unrecorded" // the reason of a denial that has no record yet
)

// allowed is the answer to a call that may leave: credential in, time limit on
// the stream, and every header out that nothing speaks for. It is not ok when
// the credential would be put where no credential goes.
func (s *Server) allowed(c *check, req *authv3.CheckRequest, headers []credential.Header, limit string) (*authv3.CheckResponse, bool) {
	set := make([]*corev3.HeaderValueOption, 0, len(headers)+2)
	for _, h := range headers {
		if !settable(h.Name) {
			return nil, false
		}
		set = append(set, overwrite(h.Name, h.Value.Expose()))
	}
	set = append(set, overwrite(headerTimeout, limit))
	if c.upgrade {
		// Nothing but the upgrade itself is hop-by-hop.
		set = append(set, overwrite(headerConnection, "Upgrade"))
	}
	names := c.removals(req.GetAttributes().GetRequest().GetHttp(), headers)
	return &authv3.CheckResponse{
		Status:          &rpcstatus.Status{Code: int32(codes.OK)},
		DynamicMetadata: metadata(c, false),
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: set, HeadersToRemove: names,
		}},
	}, true
}

// overwrite sets a header whatever the agent sent under its name. Envoy reads
// the text field of an answer, even where it wrote the raw one in the Check.
func overwrite(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// removals lists the headers that do not pass, and keeps their names for the
// record. Envoy removes after it has set: a name that the answer sets is not
// listed, which overwrites what the agent sent.
func (c *check) removals(h *authv3.AttributeContext_HttpRequest, set []credential.Header) []string {
	var names []string
	destination := c.decision.Held.Resolved.Destination
	// No error comes back: the function returns none.
	_ = eachHeader(h, func(f field) error {
		name := f.name
		if name[0] == ':' || passes(name, destination) || slices.Contains(names, name) {
			return nil
		}
		if !envoyMade(name) && !slices.Contains(c.removed, name) {
			c.removed = append(c.removed, name)
		}
		if !sets(set, name) {
			names = append(names, name)
		}
		return nil
	})
	return names
}

func sets(headers []credential.Header, name string) bool {
	return slices.ContainsFunc(headers, func(h credential.Header) bool { return h.Name == name })
}

// denied is the answer to a call that may not leave. unrecorded asks the
// access log to bring the record that could not be written.
func (s *Server) denied(c *check, unrecorded bool) *authv3.CheckResponse {
	denial := policy.NewDenial(c.decision, c.id, &c.call, max(c.after, retryAfter))
	headers := []*corev3.HeaderValueOption{
		overwrite("content-type", policy.ProblemType),
		overwrite("cache-control", "no-store"),
		overwrite(policy.HeaderDecision, c.id),
	}
	if denial.RetryAfter > 0 { // RFC 9110 section 10.2.3
		headers = append(headers, overwrite("retry-after", strconv.Itoa(denial.RetryAfter)))
	}
	return &authv3.CheckResponse{
		Status:          &rpcstatus.Status{Code: int32(codes.PermissionDenied)},
		DynamicMetadata: metadata(c, unrecorded),
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status:  &typev3.HttpStatus{Code: typev3.StatusCode(denial.Status)},
			Headers: headers,
			Body:    string(denial.ProblemJSON()),
		}},
	}
}

// metadata is what the access log entry of this call will carry.
func metadata(c *check, unrecorded bool) *structpb.Struct {
	fields := map[string]*structpb.Value{metaDecision: structpb.NewStringValue(c.id)}
	if held := c.decision.Held; held != nil {
		fields[metaGrant] = structpb.NewStringValue(string(held.Grant.ID))
	}
	if c.used && c.decision.Allowed() {
		fields[metaUse] = structpb.NewStringValue(c.call.UseID)
	}
	if unrecorded {
		fields[metaUnrecorded] = structpb.NewStringValue(c.decision.Reason.String())
	}
	return &structpb.Struct{Fields: fields}
}
