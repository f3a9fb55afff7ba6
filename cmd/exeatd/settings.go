package main

import (
	"io"
	"log/slog"
	"time"

	"github.com/exeat-dev/exeat/store"
)

// settings are all that a process depends on, whichever command it was started
// by. What belongs to a role that it does not have is empty.
type settings struct {
	roles   roles
	replica string       // this process, unique among live ones
	data    string       // folder of its own, mode 0700
	store   store.Config // where it is; the rest is filled in

	trustDomain    string
	workloadSocket string // of a Workload API that others serve; empty in dev

	listen addresses
	issuer string // URL; empty: the API's own address

	authzKey, xdsKey string // files
	catalog, secrets string // folders
	policies         bundleSource

	notify notifyOptions // whom to tell of requests for approval

	auditSync bool          // decisions are on disk before a call leaves
	drain     time.Duration // how long what is under way may take to end
	// connectionAge is when gRPC connections are renewed: well within an SVID's
	// life, so that what was presented is never long expired.
	connectionAge time.Duration
	verbose       bool

	dev *devOptions // set in `exeatd dev` alone
}

// addresses are what a process listens on; empty ones it does not.
type addresses struct {
	api, grpc, metrics string // HOST:PORT
	local              string // Unix socket
}

// secretsRoot is where the catalog's file references lie.
func (s settings) secretsRoot() string {
	if s.secrets != "" {
		return s.secrets
	}
	return s.catalog
}

// drainTime bounds how long what is under way may take to end, unless told
// otherwise.
const drainTime = 5 * time.Second

func newLogger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
}
