package main

import (
	"context"
	"strconv"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/credential"
	"github.com/exeat-dev/exeat/xds"
)

// records writes to the audit log for packages that may not import it.
type records struct{ log *audit.Log }

// RecordCredential implements credential.Recorder.
func (r records) RecordCredential(ctx context.Context, e credential.Event) {
	r.log.Credential(ctx, audit.CredentialEvent{
		Time: e.Time, Subject: audit.SubjectOf(&e.Grant), Action: audit.CredentialAction(e.Action), Provider: e.Provider,
		Outcome: e.Outcome, Handle: e.Handle, Expires: e.Expires, Outlives: e.Outlives, Detail: e.Detail,
	})
}

// SidecarConfig implements xds.Recorder.
func (r records) SidecarConfig(ctx context.Context, e xds.Event) {
	r.log.Config(ctx, audit.ConfigEvent{
		Time: e.Time, Subject: audit.Subject{Agent: e.Agent, Instance: e.Instance}, Accepted: e.Accepted,
		Resource: e.Resource, Version: strconv.FormatInt(e.Revision, 10), Error: e.Detail,
	})
}
