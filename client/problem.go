package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

var errSecret = errors.New("client: a secret cannot be marshalled")

// Problem is why the API did not do what it was asked for (RFC 9457).
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	// Code names the kind of problem for programs: not_found,
	// task_credential_required, not_eligible, param_not_allowed, ttl_too_long ...
	Code string `json:"code"`
	// Detail says what happened and what to do next.
	Detail string  `json:"detail"`
	Errors []Fault `json:"errors,omitempty"`
	// Reason is set in place of Code when the sidecar itself refused, such as
	// state_stale.
	Reason string `json:"reason,omitempty"`
}

// Fault is one field at fault.
type Fault struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Error is the detail, with the code that it belongs to.
func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	return fmt.Sprintf("%s (%s)", strings.TrimSuffix(text, "."), p.Code)
}

// Refused reports whether a request for a grant was decided against, rather
// than failed.
func (p *Problem) Refused() bool {
	switch p.Code {
	case "unknown_capability", "not_eligible", "missing_param", "unknown_param", "param_not_allowed", "ttl_too_long",
		"outside_envelope", "context_changed", "agent_suspended":
		return true
	}
	return false
}

// IsCode reports whether err is a Problem with this code.
func IsCode(err error, code string) bool {
	var p *Problem
	return errors.As(err, &p) && p.Code == code
}

// problemOf reads an answer that is not a success. What is not a problem, such
// as a proxy's page, becomes one without its text.
func problemOf(status int, body []byte) *Problem {
	var p Problem
	if json.Unmarshal(body, &p) != nil || p.Code == "" && p.Reason == "" {
		p = Problem{Code: "unexpected_answer", Title: http.StatusText(status), Detail: fmt.Sprintf("HTTP status %d that is not from Exeat; check EXEAT_URL", status)}
	}
	if p.Code == "" {
		p.Code = p.Reason
	}
	p.Status = status
	return &p
}
