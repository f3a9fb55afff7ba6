package main

import (
	"context"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/credential"
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
