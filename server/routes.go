package server

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

// apiVersion is that of the HTTP API, which changes only by additions.
const (
	apiVersion   = "1.0.0"
	schemaPrefix = "#/components/schemas/"
)

// builder registers routes with huma and with the router at once.
type builder struct {
	*Server
	api huma.API
	*router
}

// routes makes the routes of one of the two handlers.
func (s *Server) routes(local bool) *router {
	r := &router{mux: http.NewServeMux(), table: map[string]*route{}}
	b := builder{Server: s, router: r, api: humago.New(r.mux, apiConfig())}
	b.taskRoutes()
	b.grantRoutes()
	b.catalogRoutes()
	b.approvalRoutes()
	b.explainRoutes()
	b.mcpRoutes()
	if local {
		b.localRoutes()
	}
	b.publicRoutes()
	openAnswers(b.api.OpenAPI())
	return r
}

// openAnswers lets what is answered have further fields: a later version adds
// some. What is asked stays closed, so that no field is silently ignored.
func openAnswers(doc *huma.OpenAPI) {
	asked := map[string]bool{}
	for _, item := range doc.Paths {
		if item.Post != nil && item.Post.RequestBody != nil {
			for _, content := range item.Post.RequestBody.Content {
				collect(doc, content.Schema, asked)
			}
		}
	}
	for name, schema := range doc.Components.Schemas.Map() {
		if closed, ok := schema.AdditionalProperties.(bool); ok && !closed && !asked[name] {
			schema.AdditionalProperties = nil
		}
	}
}

// collect names the schemas that one refers to.
func collect(doc *huma.OpenAPI, s *huma.Schema, names map[string]bool) {
	if s == nil {
		return
	}
	for _, either := range s.OneOf {
		collect(doc, either, names)
	}
	collect(doc, s.Items, names)
	if name := strings.TrimPrefix(s.Ref, schemaPrefix); s.Ref != "" && !names[name] {
		names[name] = true
		collect(doc, doc.Components.Schemas.SchemaFromRef(s.Ref), names)
	}
	for _, property := range s.Properties {
		collect(doc, property, names)
	}
}

func apiConfig() huma.Config {
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{Title: "Exeat", Version: apiVersion, License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
				Description: "Tasks, grants and what an agent may ask for. Errors are problem details (RFC 9457) with a code."},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry(schemaPrefix, huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"sidecar": {Type: "mutualTLS", Description: "The sidecar's X.509-SVID, which EXEAT_URL shows on the agent's behalf."},
					"person":  {Type: "http", Scheme: "bearer", BearerFormat: "JWT", Description: "An ID token (OpenID Connect Core 1.0 section 2) of an issuer that an Access of the catalog names. The operator's socket needs none."},
				},
			},
		},
		// Only JSON, in and out. No documentation pages: they would load
		// scripts from elsewhere.
		Formats:                      map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
	}
}

// handler serves one operation for a caller.
type handler[I, O any] func(context.Context, grant.Caller, *I) (*O, error)

// What a route's verb may be besides those of people.
const (
	// verbOwn: an agent's sidecar alone, for what is its own.
	verbOwn policy.Verb = "own"
	// verbOperator: whoever runs this process, on its socket alone.
	verbOperator policy.Verb = "operator"
	// verbPublic: anybody; no caller is looked for.
	verbPublic policy.Verb = "public"
	// verbKey is where the OpenAPI document says a route's verb.
	verbKey = "x-exeat-verb"
)

// serve registers one operation. verb is what people need to be allowed for it.
// Errors become problems here and only here.
func serve[I, O any](b builder, verb policy.Verb, op huma.Operation, body bodyRule, h handler[I, O]) {
	r := &route{name: op.Method + " " + op.Path, verb: verb, public: verb == verbPublic, body: body}
	b.table[r.name] = r
	op.Security = securityOf(verb)
	op.Extensions = map[string]any{verbKey: string(verb)}
	// checkBody has read the body already, and bounded its size and time.
	op.MaxBodyBytes, op.BodyReadTimeout = maxBody+1, -1
	op.Responses = describeErrors(b.api, op.Responses)
	huma.Register(b.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := h(ctx, callerOf(ctx), in)
		if err == nil {
			return out, nil
		}
		p := problemOf(err)
		if p.Status >= http.StatusInternalServerError && ctx.Err() == nil {
			b.log.Error("request failed", slog.String("route", r.name), slog.Any("error", err))
		}
		return nil, p
	})
}

// describeErrors documents that every other answer is a problem.
func describeErrors(api huma.API, responses map[string]*huma.Response) map[string]*huma.Response {
	if responses == nil {
		responses = map[string]*huma.Response{}
	}
	schema := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "")
	responses["default"] = &huma.Response{
		Description: "A problem (RFC 9457); its code says which.",
		Content:     map[string]*huma.MediaType{problemJSON: {Schema: schema}},
	}
	return responses
}

// securityOf says who may call: an agent always its sidecar, people where there
// is a verb for them.
func securityOf(verb policy.Verb) []map[string][]string {
	switch verb {
	case verbPublic, verbOperator:
		return nil
	case verbOwn:
		return []map[string][]string{{"sidecar": {}}}
	case policy.VerbView:
		return []map[string][]string{{"sidecar": {}}, {"person": {}}}
	}
	return []map[string][]string{{"person": {}}}
}

// mayCall refuses people who may not do this to anything. To what they may do
// it, the operation itself finds out.
func (r *route) mayCall(c grant.Caller) *Problem {
	if c.Person == nil || r.verb != verbOwn && c.MayAny(r.verb) {
		return nil
	}
	if r.verb == verbOwn {
		return problemOf(grant.ErrNoInstance)
	}
	return problem(codeVerb, "Nothing lets you "+string(r.verb)+": ask for a rule with this verb and one of your groups in an Access of the catalog.")
}

// Waits of long polls.
const (
	defaultWait = 10 * time.Second
	maxWait     = 60 * time.Second
)

// waitOf bounds how long a caller may have its answer held back.
func waitOf(asked, otherwise time.Duration) time.Duration {
	if asked == 0 {
		return otherwise
	}
	return min(asked, maxWait)
}

// untilDrained gives a context that ends when the server stops, so that long
// polls do not hold it up.
func (s *Server) untilDrained(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.draining, cancel)
	return ctx, func() { stop(); cancel() }
}

// rawOutput is a document that is served as it is.
type rawOutput struct {
	ContentType string `header:"Content-Type" hidden:"true"`
	// CacheControl lets verifiers keep public documents for a while.
	CacheControl string `header:"Cache-Control" hidden:"true"`
	Body         []byte
}

// publicRoutes are those that need no caller: what anyone needs to verify
// tokens and to understand this API.
func (b builder) publicRoutes() {
	if b.issuer != nil {
		b.document("/.well-known/openid-configuration", "Discovery of the token issuer", "application/json", b.issuer.Discovery)
		b.document("/jwks", "Keys that verify the issuer's tokens", "application/jwk-set+json", b.issuer.JWKS)
	}
	b.document("/openapi.json", "This API as OpenAPI 3.1", "application/vnd.oai.openapi+json;version=3.1", sync.OnceValue(func() []byte {
		doc, err := json.Marshal(b.api.OpenAPI())
		if err != nil {
			panic(err) // made from our own types; finish turns it into a 500
		}
		return doc
	}))
}

func (b builder) document(path, summary, contentType string, body func() []byte) {
	op := huma.Operation{
		OperationID: "get" + operationName(path), Method: http.MethodGet, Path: path, Summary: summary, Tags: []string{"public"},
		Responses: map[string]*huma.Response{"200": {
			Description: http.StatusText(http.StatusOK),
			Content:     map[string]*huma.MediaType{contentType: {Schema: &huma.Schema{Type: huma.TypeObject}}},
		}},
	}
	serve(b, verbPublic, op, bodyNone, func(context.Context, grant.Caller, *struct{}) (*rawOutput, error) {
		return &rawOutput{ContentType: contentType, CacheControl: "public, max-age=60", Body: body()}, nil
	})
}

// operationName makes an operation's name out of a path.
func operationName(path string) string {
	var b strings.Builder
	for _, word := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == '.' || r == '-' }) {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}
