package rego

import (
	_ "embed" // builtinNames is built in
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// builtinNames lists what a policy may call, one a line. It is a list of what
// is allowed and not of what is not: a function that a later OPA brings must be
// looked at before a policy can call it.
//
//go:embed builtins.txt
var builtinNames string

// Capabilities is what policies are compiled with, in OPA's own form (opa check
// --capabilities): functions of their arguments alone, and no network.
func Capabilities() *ast.Capabilities {
	all := ast.CapabilitiesForThisVersion(ast.CapabilitiesRegoVersion(ast.RegoV1))
	names := strings.Fields(builtinNames)
	all.Builtins = slices.DeleteFunc(all.Builtins, func(b *ast.Builtin) bool { return !slices.Contains(names, b.Name) })
	all.AllowNet = []string{} // none, whereas nil is any
	return all
}
