package store

import (
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store/record"
)

func encodeApproval(a policy.Approval) []byte {
	r := &record.Approval{
		Version: version, Id: string(a.ID), Task: string(a.Task), Agent: a.Agent, Owner: a.Owner, Instance: string(a.Instance),
		RequestedBy: a.RequestedBy, StartedBy: a.StartedBy, Type: a.Type, Purpose: a.Purpose, Context: a.Context,
		Requested: nanos(a.Requested), Expires: nanos(a.Expires), Rule: ruleRecord(a.Rule), Why: a.Why, Catalog: a.Catalog,
		Round: int32(a.Round), Outcome: string(a.Outcome), DecidedAt: nanos(a.DecidedAt), By: a.By, Comment: a.Comment,
	}
	for _, i := range a.Items {
		r.Items = append(r.Items, &record.ApprovalItem{
			Grant: string(i.Grant), Capability: i.Capability, Description: i.Description, Risk: i.Risk, Sensitivity: i.Sensitivity,
			Params: i.Params, Destination: i.Destination, Calls: i.Calls, Provider: i.Provider, Scope: i.Scope,
			Ttl: int64(i.TTL), MaxUses: i.MaxUses, Digest: i.Digest,
		})
	}
	for _, v := range a.Votes {
		r.Votes = append(r.Votes, &record.Vote{
			Issuer: v.Issuer, ClientId: v.ClientID, Subject: v.Subject, Name: v.Name, Groups: v.Groups, AuthTime: nanos(v.AuthTime),
			Acr: v.ACR, Local: v.Local, At: nanos(v.At), Comment: v.Comment, Digest: v.Digest, Ttl: int64(v.TTL), MaxUses: v.MaxUses,
		})
	}
	return encode(r)
}

// decodeApproval wants the record to be of the request that its key names.
func decodeApproval(task policy.TaskID, id policy.ApprovalID, b []byte) (policy.Approval, error) {
	r := new(record.Approval)
	if err := decode(b, r); err != nil {
		return policy.Approval{}, err
	}
	if r.GetId() != string(id) || r.GetTask() != string(task) {
		return policy.Approval{}, ErrRecord
	}
	a := policy.Approval{
		ID: id, Task: task, Agent: r.GetAgent(), Owner: r.GetOwner(), Instance: policy.Instance(r.GetInstance()),
		RequestedBy: r.GetRequestedBy(), StartedBy: r.GetStartedBy(), Type: r.GetType(), Purpose: r.GetPurpose(), Context: r.GetContext(),
		Requested: fromNanos(r.GetRequested()), Expires: fromNanos(r.GetExpires()), Rule: ruleOf(r.GetRule()), Why: r.GetWhy(),
		Catalog: r.GetCatalog(), Round: int(r.GetRound()), Outcome: policy.ApprovalOutcome(r.GetOutcome()),
		DecidedAt: fromNanos(r.GetDecidedAt()), By: r.GetBy(), Comment: r.GetComment(),
	}
	for _, i := range r.GetItems() {
		a.Items = append(a.Items, policy.ApprovalItem{
			Grant: policy.GrantID(i.GetGrant()), Capability: i.GetCapability(), Description: i.GetDescription(),
			Risk: i.GetRisk(), Sensitivity: i.GetSensitivity(), Params: i.GetParams(),
			Destination: i.GetDestination(), Calls: i.GetCalls(), Provider: i.GetProvider(), Scope: i.GetScope(),
			TTL: time.Duration(i.GetTtl()), MaxUses: i.GetMaxUses(), Digest: i.GetDigest(),
		})
	}
	for _, v := range r.GetVotes() {
		a.Votes = append(a.Votes, policy.Vote{
			Voter: policy.Voter{
				Issuer: v.GetIssuer(), ClientID: v.GetClientId(), Subject: v.GetSubject(), Name: v.GetName(), Groups: v.GetGroups(),
				AuthTime: fromNanos(v.GetAuthTime()), ACR: v.GetAcr(), Local: v.GetLocal(),
			},
			At: fromNanos(v.GetAt()), Comment: v.GetComment(), Digest: v.GetDigest(), TTL: time.Duration(v.GetTtl()), MaxUses: v.GetMaxUses(),
		})
	}
	return a, nil
}

func ruleRecord(r policy.ApprovalRule) *record.ApprovalRule {
	out := &record.ApprovalRule{Count: int32(r.Count), ExpiresAfter: int64(r.ExpiresAfter)}
	for _, g := range r.Groups {
		out.Groups = append(out.Groups, &record.Groups{Any: g})
	}
	if r.StepUp != nil {
		out.StepUp, out.MaxAge, out.Acr = true, int64(r.StepUp.MaxAge), r.StepUp.ACR
	}
	return out
}

func ruleOf(r *record.ApprovalRule) policy.ApprovalRule {
	out := policy.ApprovalRule{Count: int(r.GetCount()), ExpiresAfter: time.Duration(r.GetExpiresAfter())}
	for _, g := range r.GetGroups() {
		out.Groups = append(out.Groups, g.GetAny())
	}
	if r.GetStepUp() {
		out.StepUp = &policy.StepUp{MaxAge: time.Duration(r.GetMaxAge()), ACR: r.GetAcr()}
	}
	return out
}
