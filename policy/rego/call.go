package rego

import (
	"context"

	"github.com/open-policy-agent/opa/v1/ast"
)

// callOutputs are the rules that make up exeat.call's result, and whether each
// must be a set.
var callOutputs = map[string]bool{"allow": false, "deny": true}

// Call asks exeat.call about a call, in full. Without that package it has no
// say. Calls of one grant are asked about through Ground.
func (e *Engine) Call(ctx context.Context, in *CallInput) Verdict {
	if !e.HasCall() {
		return Verdict{Allowed: true}
	}
	return e.call.judge(ctx, e.call.query, in.value())
}

func (e *entry) judge(ctx context.Context, q *query, input ast.Value) Verdict {
	out, err := q.run(ctx, input)
	if err != nil {
		return e.fault(err)
	}
	return e.verdict(out)
}
