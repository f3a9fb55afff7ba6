package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

type (
	// ApprovalPath is embedded where a path names a request that people decide on.
	ApprovalPath struct {
		ID string `path:"id" maxLength:"64" doc:"The request's ID."`
	}
	listApprovalsInput struct {
		State string `query:"state" enum:"pending,all" default:"pending" doc:"Those that wait for people, or all that are not forgotten."`
	}
	approvalsOutput struct {
		Body struct {
			Approvals []Approval `json:"approvals" doc:"The oldest first, at most 500."`
		}
	}
	approvalOutput struct{ Body Approval }
	approveInput   struct {
		ApprovalPath
		Body struct {
			Digest  string   `json:"digest" maxLength:"64" doc:"The digest of the request as it was shown to you."`
			Comment string   `json:"comment,omitempty" maxLength:"1024"`
			TTL     Duration `json:"ttl,omitzero" doc:"Narrows how long the grants last."`
			MaxUses int64    `json:"maxUses,omitempty" minimum:"1" doc:"Narrows how many calls they authorise."`
			Code    string   `json:"code,omitempty" maxLength:"32" doc:"On the operator's socket alone: the code that the server shows on its own terminal."`
		}
	}
	refuseInput struct {
		ApprovalPath
		Body struct {
			Digest  string `json:"digest,omitempty" maxLength:"64" doc:"When given, it must be the request's."`
			Comment string `json:"comment" minLength:"1" maxLength:"1024" doc:"Why it is refused; its agent is told."`
		}
	}
	issuersOutput struct {
		Body struct {
			Issuers []Issuing `json:"issuers"`
		}
	}
)

func (b builder) approvalRoutes() {
	tag := []string{"approvals"}
	serve(b, policy.VerbView, huma.Operation{OperationID: "listApprovals", Method: http.MethodGet, Path: "/v1/approvals", Tags: tag,
		Summary: "List requests that people decide on"}, bodyNone, b.listApprovals)
	serve(b, policy.VerbView, huma.Operation{OperationID: "getApproval", Method: http.MethodGet, Path: "/v1/approvals/{id}", Tags: tag,
		Summary: "Read a request that people decide on"}, bodyNone, b.getApproval)
	serve(b, policy.VerbApprove, huma.Operation{OperationID: "approve", Method: http.MethodPost, Path: "/v1/approvals/{id}/approve", Tags: tag,
		Summary:     "Approve a request, by the digest of what you saw",
		Description: "The last yes that is needed makes its grants active. 401 step_up_required: authenticate anew, as the problem says (RFC 9470).",
	}, bodyRequired, b.approve)
	serve(b, policy.VerbApprove, huma.Operation{OperationID: "refuse", Method: http.MethodPost, Path: "/v1/approvals/{id}/refuse", Tags: tag,
		Summary: "Refuse a request, with a reason"}, bodyRequired, b.refuse)
	serve(b, verbPublic, huma.Operation{OperationID: "listIssuers", Method: http.MethodGet, Path: "/v1/issuers", Tags: []string{"public"},
		Summary: "List where people sign in"}, bodyNone, b.listIssuers)
}

func (b builder) listApprovals(ctx context.Context, c grant.Caller, in *listApprovalsInput) (*approvalsOutput, error) {
	list, err := b.grants.Approvals(ctx, c, in.State == "all")
	if err != nil {
		return nil, err
	}
	out := &approvalsOutput{}
	out.Body.Approvals = []Approval{}
	for _, a := range list {
		out.Body.Approvals = append(out.Body.Approvals, wireApproval(a))
	}
	return out, nil
}

// getApproval shows and never decides: a link leads nowhere else.
func (b builder) getApproval(ctx context.Context, c grant.Caller, in *ApprovalPath) (*approvalOutput, error) {
	return approvalOf(b.grants.Approval(ctx, c, policy.ApprovalID(in.ID)))
}

func (b builder) approve(ctx context.Context, c grant.Caller, in *approveInput) (*approvalOutput, error) {
	c, err := b.asLocal(ctx, c, in)
	if err != nil {
		return nil, err
	}
	return approvalOf(b.grants.Approve(ctx, c, policy.ApprovalID(in.ID), grant.Ballot{
		Digest: in.Body.Digest, Comment: in.Body.Comment, TTL: in.Body.TTL.Duration, MaxUses: in.Body.MaxUses,
	}))
}

func (b builder) refuse(ctx context.Context, c grant.Caller, in *refuseInput) (*approvalOutput, error) {
	return approvalOf(b.grants.Refuse(ctx, c, policy.ApprovalID(in.ID), grant.Ballot{Digest: in.Body.Digest, Comment: in.Body.Comment}))
}

func approvalOf(a grant.Approval, err error) (*approvalOutput, error) {
	if err != nil {
		return nil, err
	}
	return &approvalOutput{wireApproval(a)}, nil
}

// listIssuers tells nothing that an issuer's own sign-in page does not.
func (b builder) listIssuers(context.Context, grant.Caller, *struct{}) (*issuersOutput, error) {
	cat := b.index.Catalog()
	if cat == nil {
		return nil, grant.ErrNoCatalog
	}
	out := &issuersOutput{}
	out.Body.Issuers = []Issuing{}
	for _, i := range cat.Issuers() {
		out.Body.Issuers = append(out.Body.Issuers, Issuing{Issuer: i.URL, ClientID: i.ClientID, Scopes: i.Scopes})
	}
	return out, nil
}
