package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/exeat-dev/exeat/grant"
)

type (
	enrollInput struct {
		Body struct {
			Agent string `json:"agent" minLength:"1" maxLength:"253" doc:"Whose sidecar the calling process is."`
		}
	}
	enrollOutput struct{ Body Enrollment }
)

// localRoutes are those of the Unix socket alone.
func (b builder) localRoutes() {
	if b.enroller == nil {
		return
	}
	serve(b, verbOperator, huma.Operation{OperationID: "enrollSidecar", Method: http.MethodPost, Path: "/local/v1/sidecars", Tags: []string{"sidecars"},
		Summary: "Make the calling process a sidecar of an agent", DefaultStatus: http.StatusCreated,
		Description: "The identity is bound to the process that made the connection, and ends with it."}, bodyRequired, b.enroll)
}

// enroll looks the agent up first: nobody gets an identity that leads nowhere.
func (b builder) enroll(ctx context.Context, c grant.Caller, in *enrollInput) (*enrollOutput, error) {
	env, err := b.grants.ClientEnv(c, in.Body.Agent)
	if err != nil {
		return nil, err
	}
	// A connection may have been inherited from a process that has ended, whose
	// PID may be another's by now.
	peer, ok := peerOf(ctx)
	if !ok || peer.Verify() != nil {
		return nil, problem(codeNotLocalUser, "The process that opened this connection has ended; connect from the sidecar itself.")
	}
	e, err := b.enroller.Enroll(ctx, in.Body.Agent, peer.PID)
	if err != nil {
		return nil, err
	}
	e.ClientEnv = env
	return &enrollOutput{e}, nil
}
