package rego

import (
	_ "embed" // the schemas are built in
	"encoding/json"
	"fmt"
)

//go:embed issue.schema.json
var issueText []byte

//go:embed call.schema.json
var callText []byte

var (
	issueSchema = mustSchema(issueText)
	callSchema  = mustSchema(callText)
)

// Schema gives the JSON Schema (draft-07) of an input, by its name: issue or
// call; nil for any other name.
func Schema(name string) []byte {
	switch name {
	case "issue":
		return issueText
	case "call":
		return callText
	}
	return nil
}

// mustSchema reads a schema that is built in: one that is broken is noticed by
// the first test.
func mustSchema(text []byte) any {
	var schema any
	if err := json.Unmarshal(text, &schema); err != nil {
		panic(fmt.Sprintf("a built-in schema: %v", err))
	}
	return schema
}
