// Package mcp holds the tests of /mcp by the conformance suite of the Model
// Context Protocol, through a real sidecar.
package mcp
