package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/exeat-dev/exeat/grant"
)

// mcpInstructions tell a model what it is dealing with.
const mcpInstructions = `Calls to other services leave only under an active grant, and you hold no key.
When a call is denied, explain_denial says why and what to ask for; request_grant asks for exactly that, for one purpose;
call again once it is ready. End the task when the work is done: its grants end with it.`

// mcpRoutes serves the Model Context Protocol by streamable HTTP, without
// sessions: each request is its own, by the caller that the connection proves,
// so that there is no session to steal and any replica may answer.
func (b builder) mcpRoutes() {
	// The handler asks for the server twice a request; it is made once.
	h := mcp.NewStreamableHTTPHandler(serverOf, &mcp.StreamableHTTPOptions{
		Stateless: true, JSONResponse: true, MaxRequestBodyBytes: maxBody + 1, PropagateRequestCancellation: true,
		// Who calls is proven by a certificate, and browsers are not served.
		DisableLocalhostProtection: true,
	})
	r := &route{name: "POST /mcp", verb: verbOwn, body: bodyNulls}
	b.table[r.name] = r
	b.mux.Handle(r.name, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h.ServeHTTP(w, req.WithContext(context.WithValue(req.Context(), mcpKey{}, b.mcpServer(req))))
	}))
}

type mcpKey struct{}

// serverOf is the server that was made for the request.
func serverOf(req *http.Request) *mcp.Server {
	s, _ := req.Context().Value(mcpKey{}).(*mcp.Server)
	return s
}

// mcpServer makes the server for one request: what it offers depends on who asks.
func (b builder) mcpServer(req *http.Request) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "exeat", Title: "Exeat", Version: apiVersion},
		&mcp.ServerOptions{Instructions: mcpInstructions, Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{}}})
	t := tools{builder: b, caller: callerOf(req.Context())}
	mcp.AddTool(s, &mcp.Tool{
		Name: "list_capabilities", Description: "List what you may ask for: each capability with the JSON Schema of its parameters, its risk and how long a grant may last.",
		Annotations: readOnly(),
	}, tool(t.listCapabilities))
	mcp.AddTool(s, &mcp.Tool{
		Name: "request_grant", Description: "Ask for a grant of one capability for this task, and wait until calls under it succeed. Ask for no more than the next step needs.",
		InputSchema: t.requestSchema(),
	}, tool(t.requestGrant))
	mcp.AddTool(s, &mcp.Tool{
		Name: "wait_for_grant", Description: "Wait until a grant is ready, or was refused or has ended.", Annotations: readOnly(),
	}, tool(t.waitForGrant))
	mcp.AddTool(s, &mcp.Tool{
		Name: "end_task", Description: "End this task with all its grants, as completed or failed, and get its receipt. Nothing leaves after that.",
		Annotations: &mcp.ToolAnnotations{IdempotentHint: true},
	}, tool(t.endTask))
	mcp.AddTool(s, &mcp.Tool{
		Name: "explain_denial", Description: "Say why a call was denied (by the decision ID in its answer), or what would become of a call (by method and URL), and what to ask for.",
		Annotations: readOnly(),
	}, tool(t.explainDenial))
	return s
}

func readOnly() *mcp.ToolAnnotations { return &mcp.ToolAnnotations{ReadOnlyHint: true} }

// tool adapts what a tool does. What goes wrong is a result that says so, in
// the same words as the HTTP API's, so that a model can act on it.
func tool[In, Out any](do func(context.Context, In) (Out, error)) mcp.ToolHandlerFor[In, Out] {
	return func(ctx context.Context, _ *mcp.CallToolRequest, in In) (*mcp.CallToolResult, Out, error) {
		out, err := do(ctx, in)
		if err == nil {
			return nil, out, nil
		}
		var none Out
		text, failed := json.Marshal(problemOf(err))
		if failed != nil {
			return nil, none, errors.New("internal error") // a problem always has a form
		}
		return nil, none, errors.New(string(text))
	}
}

// tools is what one caller can do.
type tools struct {
	builder
	caller grant.Caller
}
