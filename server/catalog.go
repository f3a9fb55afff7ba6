package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

type (
	capabilitiesInput struct {
		Agent string `query:"agent" maxLength:"253" doc:"For operators: whose. A sidecar always gets its own agent's."`
	}
	capabilitiesOutput struct {
		Body struct {
			Agent        string       `json:"agent"`
			Catalog      string       `json:"catalog" doc:"The catalog's revision."`
			Capabilities []Capability `json:"capabilities"`
		}
	}
	sidecarsOutput struct {
		Body struct {
			Sidecars []Sidecar `json:"sidecars"`
		}
	}
)

func (b builder) catalogRoutes() {
	serve(b, policy.VerbView, huma.Operation{OperationID: "listCapabilities", Method: http.MethodGet, Path: "/v1/capabilities", Tags: []string{"capabilities"},
		Summary: "List what the agent may ask for"}, bodyNone, b.listCapabilities)
	serve(b, policy.VerbView, huma.Operation{OperationID: "listSidecars", Method: http.MethodGet, Path: "/v1/sidecars", Tags: []string{"sidecars"},
		Summary: "List connected sidecars and their configuration"}, bodyNone, b.listSidecars)
}

func (b builder) listCapabilities(_ context.Context, c grant.Caller, in *capabilitiesInput) (*capabilitiesOutput, error) {
	list, err := b.grants.Capabilities(c, in.Agent)
	if err != nil {
		return nil, err
	}
	out := &capabilitiesOutput{}
	out.Body.Agent, out.Body.Catalog, out.Body.Capabilities = list.Agent, list.Catalog, []Capability{}
	for _, c := range list.List {
		out.Body.Capabilities = append(out.Body.Capabilities, wireCapability(c))
	}
	return out, nil
}

func (b builder) listSidecars(_ context.Context, c grant.Caller, _ *struct{}) (*sidecarsOutput, error) {
	out := &sidecarsOutput{}
	out.Body.Sidecars = []Sidecar{}
	for _, s := range b.grants.Sidecars(c) {
		out.Body.Sidecars = append(out.Body.Sidecars, wireSidecar(s))
	}
	return out, nil
}
