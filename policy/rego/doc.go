// Package rego decides by policies that operators wrote in Rego v1: exeat.issue
// on requests for grants, exeat.call on calls that a grant covers already.
//
// A package that is absent has no say. One that is there denies unless its
// allow is true and its deny is empty; an error, a conflict, a timeout or a
// result of the wrong type denies too, and the verdict names the rule. Policies
// see their input and nothing else: no network, no clock, no chance. The same
// modules and the same input give the same verdict on every replica.
//
// Modules are checked as a whole before any is used: syntax, types against the
// JSON Schema of the input, references that lead nowhere, packages that nothing
// refers to.
package rego
