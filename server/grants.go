package server

import (
	"context"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

type (
	// GrantPath is embedded where a path names a grant.
	GrantPath struct {
		ID string `path:"id" maxLength:"64" doc:"The grant's ID."`
	}
	requestInput struct {
		Proof
		Wait Duration `query:"wait" doc:"How long to wait until it is ready; 10s when absent, at most 1m."`
		Body GrantRequest
	}
	requestOutput struct {
		Status int
		Body   Grant
	}
	getGrantInput struct {
		GrantPath
		Wait Duration `query:"wait" doc:"How long to wait until it is ready or has ended; at most 1m."`
	}
	grantOutput   struct{ Body Grant }
	endGrantInput struct {
		GrantPath
		Proof
		Body *empty
	}
	operatorGrantInput struct {
		GrantPath
		Body *empty
	}
	endedGrantOutput struct{ Body EndedGrant }
)

func (b builder) grantRoutes() {
	tag := []string{"grants"}
	serve(b, verbOwn, huma.Operation{OperationID: "requestGrant", Method: http.MethodPost, Path: "/v1/grants", Tags: tag,
		Summary: "Ask for a grant", DefaultStatus: http.StatusCreated, Responses: b.requestResponses(),
		Description: "201: it is ready. 202: it is not yet, or people must approve it; read it with wait. 403: it is refused, and the problem's code says why. A list is given or approved as one.",
	}, bodyRequired, b.requestGrant)
	b.listRoute(b.table["POST /v1/grants"])
	eitherForm(b.api, "/v1/grants")
	serve(b, policy.VerbView, huma.Operation{OperationID: "getGrant", Method: http.MethodGet, Path: "/v1/grants/{id}", Tags: tag,
		Summary: "Read a grant, or wait until it is ready"}, bodyNone, b.getGrant)
	serve(b, verbOwn, huma.Operation{OperationID: "endGrant", Method: http.MethodPost, Path: "/v1/grants/{id}/end", Tags: tag,
		Summary: "End a grant that is no longer needed"}, bodyOptional, b.endGrant)
	serve(b, policy.VerbRevoke, huma.Operation{OperationID: "revokeGrant", Method: http.MethodPost, Path: "/v1/grants/{id}/revoke", Tags: tag,
		Summary: "End any grant; for operators"}, bodyOptional, b.revokeGrant)
}

// requestResponses documents that a grant comes back in two stages.
func (b builder) requestResponses() map[string]*huma.Response {
	schema := b.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Grant](), true, "")
	json := map[string]*huma.MediaType{"application/json": {Schema: schema}}
	return map[string]*huma.Response{
		"201": {Description: "The grant is ready: the very next call succeeds.", Content: json},
		"202": {Description: "The grant is not ready yet, or has ended meanwhile; its detail says why.", Content: json},
	}
}

// requestGrant holds its answer back until the grant is ready, so that an
// ordinary agent needs no second request.
func (b builder) requestGrant(ctx context.Context, c grant.Caller, in *requestInput) (*requestOutput, error) {
	st, err := b.grants.Request(ctx, c, in.Body.request(), waitOf(in.Wait.Duration, defaultWait))
	if err != nil {
		return nil, err
	}
	out := &requestOutput{Status: http.StatusAccepted, Body: wireGrant(st)}
	if st.Ready {
		out.Status = http.StatusCreated
	}
	return out, nil
}

// getGrant changes nothing, so a server that stops answers it at once.
func (b builder) getGrant(ctx context.Context, c grant.Caller, in *getGrantInput) (*grantOutput, error) {
	ctx, stop := b.untilDrained(ctx)
	defer stop()
	st, err := b.grants.Get(ctx, c, policy.GrantID(in.ID), waitOf(in.Wait.Duration, 0))
	if err != nil {
		return nil, err
	}
	return &grantOutput{wireGrant(st)}, nil
}

func (b builder) endGrant(ctx context.Context, c grant.Caller, in *endGrantInput) (*endedGrantOutput, error) {
	return endedOf(b.grants.End(ctx, c, policy.GrantID(in.ID)))
}

func (b builder) revokeGrant(ctx context.Context, c grant.Caller, in *operatorGrantInput) (*endedGrantOutput, error) {
	return endedOf(b.grants.Revoke(ctx, c, policy.GrantID(in.ID)))
}

// endedOf answers with both moments: accepted, which is certain, and enforced,
// which may not have been confirmed.
func endedOf(st grant.Status, e grant.Ending, err error) (*endedGrantOutput, error) {
	if err != nil {
		return nil, err
	}
	return &endedGrantOutput{EndedGrant{Grant: wireGrant(st), Ending: wireEnding(e)}}, nil
}
