package server

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// Problem is why a request was not done (RFC 9457). It never holds a value
// that the caller sent, only the names of fields.
type Problem struct {
	Type   string  `json:"type" format:"uri" doc:"Identifies the kind of problem; ends in its code."`
	Title  string  `json:"title" doc:"The kind of problem in words."`
	Status int     `json:"status" doc:"The HTTP status."`
	Code   string  `json:"code" doc:"The kind of problem, for programs."`
	Detail string  `json:"detail" doc:"What happened, and what to do next."`
	Errors []Fault `json:"errors,omitempty" doc:"Which fields are at fault."`
	StepUp *StepUp `json:"stepUp,omitempty" doc:"How recently and how to authenticate, with code step_up_required."`
}

// Fault is one field at fault.
type Fault struct {
	Field   string `json:"field" doc:"Path of the field, such as params.ticket."`
	Message string `json:"message" doc:"What would be right."`
}

// Error gives the detail.
func (p *Problem) Error() string { return p.Detail }

// GetStatus gives the HTTP status, for huma.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is that of RFC 9457 section 3.
func (p *Problem) ContentType(string) string { return problemJSON }

const problemJSON = "application/problem+json"

// code is one kind of problem that this package itself finds.
type code struct {
	name   string
	status int
	title  string
}

// The kinds of problem. Those of refused requests come from package policy.
var (
	codeInvalidJSON      = code{"invalid_json", http.StatusBadRequest, "The body is not JSON"}
	codeInvalidUTF8      = code{"invalid_utf8", http.StatusBadRequest, "The body is not UTF-8"}
	codeDuplicateKey     = code{"duplicate_key", http.StatusBadRequest, "A name occurs twice"}
	codeTooDeep          = code{"too_deep", http.StatusBadRequest, "The body nests too deep"}
	codeTrailingData     = code{"trailing_data", http.StatusBadRequest, "Something follows the body"}
	codeBodyMissing      = code{"body_missing", http.StatusBadRequest, "A body is needed"}
	codeBodyNotAllowed   = code{"body_not_allowed", http.StatusBadRequest, "No body is allowed"}
	codeBodyTooLarge     = code{"body_too_large", http.StatusRequestEntityTooLarge, "The body is too large"}
	codeBodyTimeout      = code{"body_timeout", http.StatusRequestTimeout, "The body came too slowly"}
	codeMediaType        = code{"unsupported_media_type", http.StatusUnsupportedMediaType, "The body is not application/json"}
	codeMalformedQuery   = code{"malformed_query", http.StatusBadRequest, "The query cannot be read"}
	codeMalformedHeader  = code{"malformed_header", http.StatusBadRequest, "A header cannot be read"}
	codeInvalid          = code{"invalid_request", http.StatusUnprocessableEntity, "The request is not valid"}
	codeBrowser          = code{"browser_request", http.StatusForbidden, "Browsers are not served"}
	codeNoRoute          = code{"no_such_route", http.StatusNotFound, "No such route"}
	codeMethod           = code{"method_not_allowed", http.StatusMethodNotAllowed, "The route has no such method"}
	codeNoIdentity       = code{"identity_required", http.StatusUnauthorized, "A client certificate or an ID token is needed"}
	codeTokenExpired     = code{"token_expired", http.StatusUnauthorized, "The ID token has expired"}
	codeTokenRefused     = code{"token_refused", http.StatusUnauthorized, "The ID token is not taken"}
	codeUseSidecar       = code{"use_sidecar", http.StatusForbidden, "An agent calls through its sidecar"}
	codeUnknownCaller    = code{"unknown_caller", http.StatusForbidden, "No agent belongs to this identity"}
	codeNotLocalUser     = code{"not_local_operator", http.StatusForbidden, "Only who runs this process may use its socket"}
	codeNotFound         = code{"not_found", http.StatusNotFound, "No such task or grant"}
	codeTaskProof        = code{"task_credential_required", http.StatusForbidden, "The task's credential is needed"}
	codeNotOperator      = code{"operator_required", http.StatusForbidden, "Only an operator may do this"}
	codeVerb             = code{"verb_required", http.StatusForbidden, "The catalog lets you do no such thing"}
	codeOperatorHasNone  = code{"sidecar_required", http.StatusForbidden, "Only a sidecar may do this for its agent"}
	codeEnded            = code{"ended", http.StatusConflict, "It has ended"}
	codeChanged          = code{"changed_meanwhile", http.StatusConflict, "It changed meanwhile"}
	codeRevokedMeanwhile = code{"revoked_meanwhile", http.StatusConflict, "It was revoked meanwhile"}
	codeKeyReused        = code{"idempotency_key_reused", http.StatusUnprocessableEntity, "The idempotency key was used for something else"}
	codeAttemptRuns      = code{"attempt_running", http.StatusConflict, "The first attempt is still running"}
	codeAttemptLost      = code{"attempt_unknown", http.StatusConflict, "The first attempt's outcome is not known"}
	codeRestarted        = code{"request_changed", http.StatusConflict, "The request changed with the catalog"}
	codeCodeNeeded       = code{"code_required", http.StatusForbidden, "A code from the server's terminal is needed"}
	codeWrongCode        = code{"wrong_code", http.StatusForbidden, "The code is not taken"}
	codeNoTerminal       = code{"no_terminal", http.StatusForbidden, "The server has no terminal to show a code on"}
	codeTooMany          = code{"too_many", http.StatusTooManyRequests, "There are too many"}
	codeFull             = code{"store_full", http.StatusServiceUnavailable, "The store is full"}
	codeUnavailable      = code{"unavailable", http.StatusServiceUnavailable, "Not available now"}
	codeInternal         = code{"internal", http.StatusInternalServerError, "Something failed here"}
)

const problemBase = "https://exeat.dev/problems/"

func problem(c code, detail string) *Problem {
	return &Problem{Type: problemBase + c.name, Title: c.title, Status: c.status, Code: c.name, Detail: detail}
}

// at names the one field at fault, when there is one.
func (p *Problem) at(field string) *Problem {
	if field != "" {
		p.Errors = append(p.Errors, Fault{Field: field, Message: p.Detail})
	}
	return p
}

// write sends p; nothing may have been written before.
func (p *Problem) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", problemJSON)
	maps.Copy(w.Header(), p.GetHeaders())
	w.WriteHeader(p.Status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(p) // the caller has gone: nobody is left to tell
}

// problemOf is the one place where an error becomes an answer. What it does
// not know is internal, and says nothing of what it was.
func problemOf(err error) *Problem {
	var p *Problem
	var refused *policy.RequestError
	var invalid *grant.InvalidError
	var vote *policy.VoteError
	switch {
	case errors.As(err, &vote):
		return votedProblem(vote)
	case errors.As(err, &p):
		return p
	case errors.As(err, &refused):
		return refusal(refused)
	case errors.As(err, &invalid):
		return &Problem{Type: problemBase + codeInvalid.name, Title: codeInvalid.title, Status: codeInvalid.status,
			Code: codeInvalid.name, Detail: invalid.Error(), Errors: []Fault{{Field: invalid.Field, Message: invalid.Message}}}
	}
	for _, known := range sentinels {
		if errors.Is(err, known.err) {
			return problem(known.code, known.detail)
		}
	}
	return problem(codeInternal, "The request failed for a reason that is in the server's log; try again later.")
}

// GetHeaders gives what an answer with p has besides its type; for huma.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	switch p.Status {
	case http.StatusUnauthorized: // RFC 9110 section 11.6.1
		h.Set("WWW-Authenticate", p.challenge())
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	}
	return h
}

// challenge says what authentication is wanted (RFC 6750 section 3, RFC 9470
// section 3).
func (p *Problem) challenge() string {
	if p.StepUp == nil {
		return "Bearer"
	}
	c := `Bearer error="insufficient_user_authentication", max_age=` + strconv.Itoa(int(p.StepUp.MaxAge.Seconds()))
	if p.StepUp.ACR != "" {
		c += `, acr_values=` + strconv.Quote(p.StepUp.ACR)
	}
	return c
}

// voteStatus gives the HTTP status of a vote that does not count; any other
// code is that of someone who may not.
var voteStatus = map[string]int{
	policy.CodeStepUp: http.StatusUnauthorized, policy.CodeVotedBefore: http.StatusConflict, policy.CodeDigest: http.StatusConflict,
	policy.CodeDecided: http.StatusConflict, policy.CodeNotNarrower: http.StatusUnprocessableEntity,
}

func votedProblem(e *policy.VoteError) *Problem {
	status, ok := voteStatus[e.Code]
	if !ok {
		status = http.StatusForbidden
	}
	return &Problem{
		Type: problemBase + e.Code, Title: "The approval does not count", Status: status, Code: e.Code, Detail: e.Message, StepUp: wireStepUp(e.StepUp),
	}
}

// refusal answers a request that the catalog does not permit.
func refusal(e *policy.RequestError) *Problem {
	p := &Problem{Type: problemBase + e.Code, Title: "The grant is refused", Status: http.StatusForbidden, Code: e.Code, Detail: e.Message}
	if e.Field != "" {
		p.Errors = []Fault{{Field: e.Field, Message: e.Message}}
	}
	return p
}

// sentinels pairs the errors below this package with their answers.
var sentinels = [...]struct {
	err    error
	code   code
	detail string
}{
	{grant.ErrNotFound, codeNotFound, "There is no such task, grant or request here, or it is not yours."},
	{grant.ErrProof, codeTaskProof, "Send the task's credential in the header Exeat-Task-Credential, or call " + policy.HostAPI + " through the task's proxy."},
	{grant.ErrOperator, codeNotOperator, "Ask an operator, or someone whom an Access of the catalog lets do it; an agent ends the grant or the task itself."},
	{grant.ErrNoInstance, codeOperatorHasNone, "Tasks and grants belong to a sidecar: start it with exeat run, and call its EXEAT_URL."},
	{grant.ErrEnded, codeEnded, "What ended does not come back; start a new task or ask for a new grant."},
	{grant.ErrTooMany, codeTooMany, "End what is no longer needed, then ask again."},
	{grant.ErrRestarted, codeRestarted, "The catalog in force gives it another meaning, and approvals start over: look at it again, and approve what you then see."},
	{grant.ErrNoCatalog, codeUnavailable, "No catalog is in force yet; try again in a moment."},
	{store.ErrFloor, codeRevokedMeanwhile, "It was revoked while it was being asked for; ask again if it is still needed."},
	{store.ErrConflict, codeChanged, "It was changed by someone else at the same moment; try again."},
	{store.ErrFull, codeFull, "The store takes endings only until there is room again; tell an operator."},
	{store.ErrNotFound, codeNotFound, "There is no such task, grant or request here, or it is not yours."},
	{store.ErrClosed, codeUnavailable, "The server is stopping; try again in a moment."},
}

// Huma asks these globals for its errors and for how it compares names; they
// are set before anything runs and never again, so that no error of huma's
// own, which would hold the caller's values, is ever made.
func init() {
	huma.NewError = humaError
	huma.ValidateStrictCasing = true
}

// humaError brings what huma found wrong into our form, without the values.
func humaError(status int, _ string, errs ...error) huma.StatusError {
	switch {
	case status == http.StatusRequestEntityTooLarge:
		return tooLarge()
	case status == http.StatusRequestTimeout:
		return problem(codeBodyTimeout, "The body did not arrive in time; send it again.")
	case status >= http.StatusInternalServerError:
		return problemOf(errors.Join(errs...))
	case len(errs) == 0:
		return problem(codeBodyMissing, "Send a JSON object as the body.")
	}
	p := problem(codeInvalid, "")
	for _, err := range errs {
		p.Errors = append(p.Errors, faultOf(err))
	}
	first := p.Errors[0]
	p.Detail = first.Message + "."
	if first.Field != "" {
		p.Detail = first.Field + ": " + p.Detail
	}
	return p
}

// faultOf keeps the place and the rule of an error and drops the value.
func faultOf(err error) Fault {
	var d *huma.ErrorDetail
	if !errors.As(err, &d) {
		return Fault{Message: "not valid"}
	}
	field := strings.TrimPrefix(d.Location, "body.")
	if rest, list := strings.CutPrefix(d.Location, "body["); list { // only grants come as a list
		field = "grants[" + rest
	}
	if field == "body" {
		field = ""
		// Only a decoder speaks of the whole body, and it may quote it.
		if !strings.HasPrefix(d.Message, "expected ") {
			return Fault{Message: "the body does not fit this request"}
		}
	}
	return Fault{Field: shorten(field), Message: d.Message}
}

func tooLarge() *Problem {
	return problem(codeBodyTooLarge, "The body is larger than 64 KiB; send less.")
}
