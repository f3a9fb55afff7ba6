package server

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

// GrantRequest asks for one grant.
type GrantRequest struct {
	Task       string            `json:"task" maxLength:"64"`
	Capability string            `json:"capability" maxLength:"253" example:"read-ticket"`
	Params     map[string]string `json:"params,omitempty" maxProperties:"64"`
	TTL        Duration          `json:"ttl,omitzero" doc:"How long it lasts; what the capability says when absent."`
	MaxUses    int64             `json:"maxUses,omitempty" minimum:"1" maximum:"1000000000" doc:"How many calls it authorises; what the capability says when absent."`
}

// Grants are several grants that were asked for as one.
type Grants struct {
	Grants []Grant `json:"grants"`
}

type (
	requestListInput struct {
		Proof
		Wait Duration       `query:"wait" doc:"How long to wait until they are ready; 10s when absent, at most 1m."`
		Body []GrantRequest `minItems:"1" maxItems:"16"`
	}
	requestListOutput struct {
		Status int
		Body   Grants
	}
)

// listPath is where a list of requests is served. Nobody reaches it but by
// sending a list to the path of one request: see listed.
const listPath = "/v1/grants/list"

// listRoute registers the list's own operation, so that what is wrong with an
// entry is told as precisely as for one request.
func (b builder) listRoute(one *route) {
	op := huma.Operation{OperationID: "requestGrants", Method: http.MethodPost, Path: listPath, DefaultStatus: http.StatusCreated, Hidden: true}
	serve(b, verbOwn, op, bodyRequired, b.requestGrants)
	delete(b.table, http.MethodPost+" "+listPath)
	one.list = listPath
}

// listed sends a body that is a list to where lists are served.
func (r *route) listed(req *http.Request) *http.Request {
	if r.list == "" {
		return req
	}
	body, err := io.ReadAll(req.Body) // it is in memory already
	req.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil || !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("[")) {
		return req
	}
	u := *req.URL
	u.Path = r.list
	req.URL = &u
	return req
}

// eitherForm documents that a request may be one or a list, and so may be what
// comes back.
func eitherForm(api huma.API, path string) {
	doc := api.OpenAPI()
	op := doc.Paths[path].Post
	schemas := doc.Components.Schemas
	one, most := 1, 16
	request := schemas.Schema(reflect.TypeFor[GrantRequest](), true, "")
	list := &huma.Schema{Type: huma.TypeArray, Items: request, MinItems: &one, MaxItems: &most, Description: "Given or approved as one: all of them or none."}
	op.RequestBody.Content["application/json"] = &huma.MediaType{Schema: &huma.Schema{OneOf: []*huma.Schema{request, list}}}
	answer := &huma.Schema{OneOf: []*huma.Schema{
		schemas.Schema(reflect.TypeFor[Grant](), true, ""), schemas.Schema(reflect.TypeFor[Grants](), true, ""),
	}}
	for _, status := range []string{"201", "202"} {
		op.Responses[status].Content["application/json"] = &huma.MediaType{Schema: answer}
	}
}

func (r GrantRequest) request() grant.Request {
	return grant.Request{Task: policy.TaskID(r.Task), Capability: r.Capability, Params: r.Params, TTL: r.TTL.Duration, MaxUses: r.MaxUses}
}

// requestGrants asks for several as one.
func (b builder) requestGrants(ctx context.Context, c grant.Caller, in *requestListInput) (*requestListOutput, error) {
	var rs []grant.Request
	for _, r := range in.Body {
		rs = append(rs, r.request())
	}
	list, err := b.grants.RequestAll(ctx, c, rs, waitOf(in.Wait.Duration, defaultWait))
	if err != nil {
		return nil, err
	}
	out := &requestListOutput{Status: http.StatusCreated}
	for _, st := range list {
		if !st.Ready {
			out.Status = http.StatusAccepted
		}
		out.Body.Grants = append(out.Body.Grants, wireGrant(st))
	}
	return out, nil
}
