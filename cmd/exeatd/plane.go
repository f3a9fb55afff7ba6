package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/catalog"
	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/credential"
	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/identity"
	"github.com/exeat-dev/exeat/proxy"
	"github.com/exeat-dev/exeat/server"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/xds"
)

// plane is every role in one process. open fills it from the bottom up;
// close takes it down in the other order.
type plane struct {
	options  devOptions
	log      *slog.Logger
	registry *prometheus.Registry

	store       *store.Store
	authority   *identity.Authority
	trustDomain string
	listeners   listeners
	endpoints   client.Endpoints

	audit     *audit.Log
	issuer    *credential.Issuer
	minter    *credential.Manager
	grants    *grant.Service
	denials   *grant.Denials
	api       *server.Server
	xds       *xds.Server
	proxy     *proxy.Server
	publisher *catalog.Publisher

	cleanup []func()
}

// replica names this process in the store; there is one on a data folder.
const replica = "dev"

// open makes every part. The store comes first: its lock says whether this
// process may touch the folder at all.
func open(ctx context.Context, o devOptions, log *slog.Logger) (*plane, error) {
	p := &plane{options: o, log: log, registry: newRegistry()}
	for _, step := range []func(context.Context) error{
		p.openStore, p.openIdentity, p.openListeners, p.openAudit, p.openCredentials, p.openAPI, p.openSidecarServices, p.openCatalog,
	} {
		if err := step(ctx); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

func (p *plane) onClose(fn func()) { p.cleanup = append(p.cleanup, fn) }

func (p *plane) close() {
	for i := len(p.cleanup) - 1; i >= 0; i-- {
		p.cleanup[i]()
	}
	p.cleanup = nil
}

func (p *plane) openStore(ctx context.Context) (err error) {
	if err := privateDir(p.options.data); err != nil {
		return err
	}
	p.store, err = store.Open(ctx, store.Config{Dir: filepath.Join(p.options.data, "etcd"), Replica: replica, Log: p.log})
	if errors.Is(err, store.ErrLocked) {
		return fmt.Errorf("%s: %w; stop it, or use another folder with --data", p.options.data, err)
	}
	if err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	p.onClose(func() { p.store.Close() })
	p.registry.MustRegister(newStaleness(p.store.Index().Age))
	return nil
}

func (p *plane) openIdentity(context.Context) (err error) {
	p.authority, p.trustDomain, err = openAuthority(p.options, p.log)
	return err
}

func (p *plane) openListeners(context.Context) (err error) {
	if p.listeners, err = listen(p.options); err != nil {
		return err
	}
	p.onClose(p.listeners.close)
	// What a process before this one served on says nothing about us.
	if err := client.RemoveEndpoints(p.options.data); err != nil {
		return err
	}
	p.onClose(func() { _ = client.RemoveEndpoints(p.options.data) }) // a stale file does no harm
	ca := filepath.Join(p.options.data, "ca.pem")
	p.endpoints = client.Endpoints{
		API: "https://" + p.listeners.api.Addr().String(), Issuer: "https://" + p.listeners.api.Addr().String(),
		Metrics: "http://" + p.listeners.metrics.Addr().String(), GRPC: p.listeners.grpc.Addr().String(),
		CAFile: ca, TrustDomain: p.trustDomain, WorkloadSocket: p.listeners.workload, LocalSocket: p.listeners.local.Addr().String(),
	}
	return os.WriteFile(ca, p.authority.BundlePEM(), 0o644)
}

func (p *plane) openAudit(context.Context) (err error) {
	dir := filepath.Join(p.options.data, "audit")
	sync := p.options.auditSync == "disk"
	if p.audit, err = audit.Open(audit.Config{Dir: dir, Sync: sync, Registry: p.registry, Log: p.log, Clock: p.store.Now}); err != nil {
		return fmt.Errorf("open the audit log: %w", err)
	}
	p.onClose(func() { p.audit.Close() })
	return nil
}

func (p *plane) openCredentials(ctx context.Context) error {
	key, err := openKey(filepath.Join(p.options.data, "keys"), "authz.key")
	if err != nil {
		return err
	}
	p.issuer, err = credential.OpenIssuer(ctx, credential.IssuerConfig{Store: p.store, Key: key, URL: p.endpoints.Issuer, Log: p.log})
	if err != nil {
		return fmt.Errorf("open the issuer: %w", err)
	}
	p.minter, err = credential.New(credential.Config{
		Store: p.store, Key: key, SecretsRoot: p.secretsRoot(), Issuer: p.issuer, Recorder: records{p.audit},
		Replica: replica, Registry: p.registry, Log: p.log,
	})
	return err
}

func (p *plane) secretsRoot() string {
	if p.options.secrets != "" {
		return p.options.secrets
	}
	return p.options.catalog
}

func (p *plane) openAPI(context.Context) (err error) {
	p.grants, err = grant.New(grant.Config{Store: p.store, Audit: p.audit, Failures: p.minter, Registry: p.registry, Log: p.log})
	if err != nil {
		return err
	}
	p.api, err = server.New(server.Config{
		Grants: p.grants, Store: p.store, Issuer: p.issuer, Enroller: enroller{p}, TrustDomain: p.trustDomain,
		Registry: p.registry, Log: p.log,
	})
	return err
}

func (p *plane) openSidecarServices(context.Context) error {
	key, err := openKey(filepath.Join(p.options.data, "keys"), "xds.key")
	if err != nil {
		return err
	}
	p.xds, err = xds.New(xds.Config{Store: p.store, Key: key, Recorder: records{p.audit}, Registry: p.registry, Log: p.log, Wall: p.store.Now})
	if err != nil {
		return err
	}
	p.denials = p.grants.NewDenials("") // alone on its data folder
	p.proxy, err = proxy.New(proxy.Config{
		Denials: p.denials,
		Index:   p.store.Index(), Now: p.store.Now, Credentials: p.minter, Audit: p.audit, Touches: p.store, Tallies: p.audit, Registry: p.registry, Log: p.log,
	})
	return err
}

func (p *plane) openCatalog(context.Context) (err error) {
	p.publisher, err = catalog.NewPublisher(catalog.PublisherConfig{
		Dir: p.options.catalog, Secrets: p.options.secrets, Store: p.store, Lead: p.store.Lead,
		Registry: p.registry, Clock: p.store.Now, Log: p.log,
	})
	return err
}

// source is one of this process's two identities: the API's or the gRPC
// server's. dns and ips let plain HTTPS clients verify it as well.
func (p *plane) source(id func(string) (identity.ID, error), dns []string, ips []net.IP) (*identity.Source, error) {
	name, err := id(p.trustDomain)
	if err != nil {
		return nil, err
	}
	return p.authority.Source(name, dns, ips), nil
}

// drainTime bounds how long what is under way may take to end.
const drainTime = 5 * time.Second
