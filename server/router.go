package server

import (
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/exeat-dev/exeat/policy"
)

// router finds routes. huma serves them through the same mux.
type router struct {
	mux   *http.ServeMux
	table map[string]*route // by the mux's pattern
}

// route is what is known of a route before it runs.
type route struct {
	name   string      // the pattern, which is also the metric's label
	verb   policy.Verb // what people need to be allowed
	public bool        // needs no caller
	body   bodyRule
	list   string // where a body is served that is a list; empty: nowhere
}

// bodyRule says what a route takes as its body.
type bodyRule int

const (
	bodyNone     bodyRule = iota
	bodyOptional          // absent, or an empty object
	bodyRequired
	bodyNulls // required, and a member may be null, as JSON-RPC has it
)

// match finds the route of a request, or nil. A path that is not in its
// shortest form has none: nothing is redirected and nothing is guessed.
func (r *router) match(req *http.Request) *route {
	if req.URL.Path != path.Clean(req.URL.Path) || req.URL.RawPath != "" {
		return nil
	}
	// The mux would redirect or answer by itself; only its pattern is used.
	_, pattern := r.mux.Handler(req)
	return r.table[pattern]
}

// refuse answers for a request without a route: other methods might have one.
func (r *router) refuse(w http.ResponseWriter, req *http.Request) *Problem {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		other := req.Clone(req.Context())
		other.Method = method
		if method != req.Method && r.match(other) != nil {
			allowed = append(allowed, method)
		}
	}
	if allowed == nil {
		return problem(codeNoRoute, "The routes are listed in /openapi.json.")
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return problem(codeMethod, "Use "+strings.Join(allowed, " or ")+" for this route; /openapi.json lists them all.")
}

// recorder remembers the status that was sent.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader notes the first status.
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write notes the status that a write implies.
func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) code() string {
	if w.status == 0 {
		return strconv.Itoa(http.StatusOK)
	}
	return strconv.Itoa(w.status)
}
