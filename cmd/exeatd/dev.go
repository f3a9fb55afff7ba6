package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/store"
)

// devOptions are the flags of `exeatd dev`.
type devOptions struct {
	catalog, data, secrets string
	api, grpc, metrics     string
	trustDomain            string
	svidTTL                time.Duration
	auditSync              string
	policyBundle           string
	policyKeys, policyCA   string
	verbose                bool
	notify                 notifyOptions
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
	f.StringVar(&o.policyBundle, "policy-bundle", "", "OPA bundle with the policies: a folder, a .tar.gz file or an https URL (the catalog's folder policies when empty)")
	f.StringVar(&o.policyKeys, "policy-keys", "", "JSON file of the public keys that verify the bundle; unsigned ones are refused then")
	f.StringVar(&o.policyCA, "policy-ca", "", "PEM file to trust for the bundle's https instead of the system's roots")
	o.notify.flags(f)
	f.BoolVarP(&o.verbose, "verbose", "v", false, "log at debug level")
	_ = cmd.MarkFlagRequired("catalog")
	return cmd
}

// runDev serves every role from one folder.
func runDev(ctx context.Context, o devOptions, stderr io.Writer) error {
	if o.auditSync != "process" && o.auditSync != "disk" {
		return fmt.Errorf("--audit-sync %q: want process or disk", o.auditSync)
	}
	var err error
	// Whoever reads the endpoints need not stand where we were started.
	if o.data, err = filepath.Abs(o.data); err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	keys := filepath.Join(o.data, "keys")
	return run(ctx, settings{
		roles: everyRole, replica: devReplica, data: o.data, store: store.Config{Dir: filepath.Join(o.data, "etcd")},
		listen:   addresses{api: o.api, grpc: o.grpc, metrics: o.metrics},
		authzKey: filepath.Join(keys, "authz.key"), xdsKey: filepath.Join(keys, "xds.key"),
		catalog: o.catalog, secrets: o.secrets, policies: bundleSource{o.policyBundle, o.policyKeys, o.policyCA}, auditSync: o.auditSync == "disk",
		notify: o.notify,
		drain:  drainTime, connectionAge: o.svidTTL / 4, verbose: o.verbose, dev: &o,
	}, newLogger(stderr, o.verbose))
}

// devReplica names this process in the store; there is one on a data folder.
const devReplica = "dev"
