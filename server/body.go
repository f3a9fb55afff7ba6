package server

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// mutates reports whether a request may change something.
func mutates(req *http.Request) bool {
	return req.Method != http.MethodGet && req.Method != http.MethodHead
}

// single lists the headers that say who acts; two values would let two readers
// disagree about it.
var single = [...]string{"Authorization", policy.HeaderTask, policy.HeaderTaskCredential, "Content-Type", "Content-Length"}

// checkHeaders refuses what a browser sends on behalf of some page, and
// headers that occur twice.
func checkHeaders(req *http.Request) *Problem {
	for name := range req.Header {
		// Node.js sends Sec-Fetch-Mode too; a browser always says more than that
		// (Fetch Metadata Request Headers, section 2).
		if mutates(req) && (name == "Origin" || strings.HasPrefix(name, "Sec-Fetch-") && name != "Sec-Fetch-Mode") {
			return problem(codeBrowser, "A web page cannot change anything here; call the API from a program.")
		}
	}
	for _, name := range single {
		if len(req.Header.Values(name)) > 1 {
			return problem(codeMalformedHeader, "The header "+name+" occurs twice; send it once.")
		}
	}
	return nil
}

// checkQuery refuses a query that could be read in two ways.
func checkQuery(req *http.Request) *Problem {
	values, err := url.ParseQuery(req.URL.RawQuery)
	if err != nil {
		return problem(codeMalformedQuery, "The query is not in the form of application/x-www-form-urlencoded.")
	}
	for name, v := range values {
		if len(v) > 1 {
			return problem(codeMalformedQuery, "A query parameter occurs twice; send it once.").at("query." + shorten(name))
		}
		if v[0] == "" { // some would read it as absent, some as a value
			return problem(codeMalformedQuery, "A query parameter is empty; give it a value or leave it out.").at("query." + shorten(name))
		}
	}
	return nil
}

// checkBody reads the body whole and makes sure that it is one strict JSON
// text, or none where the route takes none. The request goes on with a copy.
func checkBody(w http.ResponseWriter, req *http.Request, rule bodyRule) (*http.Request, *Problem) {
	body, p := readBody(w, req)
	if p != nil {
		return nil, p
	}
	if len(body) > 0 {
		if rule == bodyNone {
			return nil, problem(codeBodyNotAllowed, "This route takes no body; send none.")
		}
		if p := checkType(req); p != nil {
			return nil, p
		}
		if p := scanJSON(body, rule == bodyNulls); p != nil {
			return nil, p
		}
	} else if rule >= bodyRequired {
		return nil, problem(codeBodyMissing, "Send a JSON object as the body.")
	}
	// The body is here. net/http goes on reading to notice a caller that leaves,
	// and would take the passing of the read deadline for that.
	if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
		return nil, problem(codeInternal, "The connection cannot be waited on; open another one.")
	}
	req = req.Clone(req.Context())
	req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return req, nil
}

func readBody(w http.ResponseWriter, req *http.Request) ([]byte, *Problem) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	var large *http.MaxBytesError
	var slow net.Error
	switch {
	case err == nil:
		return body, nil
	case errors.As(err, &large):
		return nil, tooLarge()
	case errors.As(err, &slow) && slow.Timeout():
		return nil, problem(codeBodyTimeout, "The body did not arrive in time; send it again.")
	}
	return nil, problem(codeInvalidJSON, "The body broke off; send it again.")
}

// checkType insists on application/json, in UTF-8 if it says so at all.
func checkType(req *http.Request) *Problem {
	kind, params, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	charset, has := params["charset"]
	if err != nil || kind != "application/json" || has && !strings.EqualFold(charset, "utf-8") {
		return problem(codeMediaType, "Send Content-Type: application/json.")
	}
	if req.Header.Get("Content-Encoding") != "" {
		return problem(codeMediaType, "Send the body without Content-Encoding.")
	}
	return nil
}
