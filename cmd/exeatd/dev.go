package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/exeat-dev/exeat/client"
)

// devOptions are the flags of `exeatd dev`.
type devOptions struct {
	catalog, data, secrets string
	api, grpc, metrics     string
	trustDomain            string
	svidTTL                time.Duration
	auditSync              string
	verbose                bool
}

func devCommand() *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use:   "dev --catalog DIR",
		Short: "Run every role in one process on loopback",
		Long: `Runs the API, xDS and authorisation in one process, with an embedded etcd that
listens nowhere and an embedded SPIFFE authority. What it serves on is written
to DATA/endpoints.json. Port 0 takes any free one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDev(cmd.Context(), o, cmd.ErrOrStderr()) },
	}
	f := cmd.Flags()
	f.StringVar(&o.catalog, "catalog", "", "folder of the catalog's YAML files (watched)")
	f.StringVar(&o.data, "data", client.DataDir(), "folder for state and keys, this user's alone")
	f.StringVar(&o.secrets, "secrets", "", "folder under which the catalog's file references lie (the catalog's own when empty)")
	f.StringVar(&o.api, "api", "127.0.0.1:8471", "address of the HTTP API")
	f.StringVar(&o.grpc, "grpc", "127.0.0.1:8472", "address of xDS, ext_authz and access logs")
	f.StringVar(&o.metrics, "metrics", "127.0.0.1:8473", "address of /livez, /readyz and /metrics")
	f.StringVar(&o.trustDomain, "trust-domain", "", "SPIFFE trust domain at first start (the catalog's when empty)")
	f.DurationVar(&o.svidTTL, "svid-ttl", time.Hour, "life of an X.509-SVID; renewed at half of it")
	f.StringVar(&o.auditSync, "audit-sync", "process", "what a decision survives before a call leaves: process (its death) or disk (power loss)")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "log at debug level")
	_ = cmd.MarkFlagRequired("catalog")
	return cmd
}
