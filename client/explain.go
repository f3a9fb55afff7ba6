package client

import (
	"context"
	"net/http"
	"net/url"
)

// Explain says what would become of a call, and why. It is no decision and is
// not recorded.
func (c *Client) Explain(ctx context.Context, r ExplainRequest) (Explained, error) {
	var e Explained
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/explain", in: r, out: &e})
	return e, err
}

// Decision reads a recorded decision by the ID that a denial names.
func (c *Client) Decision(ctx context.Context, id string) (RecordedDecision, error) {
	var d RecordedDecision
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/decisions/" + url.PathEscape(id), out: &d})
	return d, err
}
