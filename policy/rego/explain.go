package rego

import (
	"context"
	"io"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// ExplainIssue is Issue, and writes how each rule came out. The trace holds
// what the input holds.
func (e *Engine) ExplainIssue(ctx context.Context, in IssueInput, w io.Writer) Issued {
	if !e.HasIssue() {
		return e.Issue(ctx, in)
	}
	out, err := e.issue.traced(ctx, in.value(), w)
	if err != nil {
		return Issued{Verdict: e.issue.fault(err)}
	}
	return e.issue.issued(out)
}

// ExplainCall is Call, and writes how each rule came out.
func (e *Engine) ExplainCall(ctx context.Context, in *CallInput, w io.Writer) Verdict {
	if !e.HasCall() {
		return e.Call(ctx, in)
	}
	out, err := e.call.traced(ctx, in.value(), w)
	if err != nil {
		return e.call.fault(err)
	}
	return e.call.verdict(out)
}

func (e *entry) traced(ctx context.Context, input ast.Value, w io.Writer) (outputs, error) {
	trace := topdown.NewBufferTracer()
	out, err := e.query.run(ctx, input, rego.EvalQueryTracer(trace))
	topdown.PrettyTraceWithLocation(w, *trace)
	return out, err
}
