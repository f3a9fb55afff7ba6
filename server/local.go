package server

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

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
	if b.snapshot != nil {
		serve(b, verbOperator, huma.Operation{OperationID: "backup", Method: http.MethodGet, Path: "/local/v1/snapshot", Tags: []string{"operation"},
			Summary:     "Copy the whole store, task credentials and sealed keys included",
			Description: "The trailer Exeat-Latest names the latest change that the copy must hold; without it the copy is not whole."}, bodyNone, b.backup)
	}
	if b.enroller == nil {
		return
	}
	serve(b, verbOperator, huma.Operation{OperationID: "enrollSidecar", Method: http.MethodPost, Path: "/local/v1/sidecars", Tags: []string{"sidecars"},
		Summary: "Make the calling process a sidecar of an agent", DefaultStatus: http.StatusCreated,
		Description: "The identity is bound to the process that made the connection, and ends with it."}, bodyRequired, b.enroll)
}

// TrailerLatest ends a snapshot, and only a whole one.
const TrailerLatest = "Exeat-Latest"

// backup streams the store for as long as that takes.
func (b builder) backup(_ context.Context, c grant.Caller, _ *struct{}) (*huma.StreamResponse, error) {
	if !c.Operator {
		return nil, grant.ErrOperator
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		req, w := humago.Unwrap(ctx)
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // a large store takes long
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Trailer", TrailerLatest)
		latest, err := b.snapshot(req.Context(), w)
		if err != nil {
			b.log.Error("snapshot failed", slog.Any("error", err))
			return
		}
		w.Header().Set(TrailerLatest, strconv.FormatInt(latest, 10))
	}}, nil
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
