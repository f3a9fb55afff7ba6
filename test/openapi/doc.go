// Package openapi holds the tests of the HTTP API as its OpenAPI document
// describes it, driven by tools that nobody here wrote.
package openapi
