package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

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

// plane is one process with its roles. open fills it from the bottom up;
// close takes it down in the other order. What no role of its needs is nil.
type plane struct {
	settings settings
	log      *slog.Logger
	registry *prometheus.Registry

	store       *store.Store
	authority   *identity.Authority // dev's own
	identities  identities
	trustDomain string
	listeners   listeners
	endpoints   client.Endpoints

	audit *audit.Log

	// Role authz.
	issuer *credential.Issuer
	minter *credential.Manager
	proxy  *proxy.Server
	// denials counts what proxy denies.
	denials *grant.Denials

	// Roles api and authz.
	failures *credential.Failures // nil where this process mints itself
	grants   *grant.Service

	// Role api.
	api       *server.Server
	notifier  *grant.Notifier // nil: nobody is notified
	publisher *catalog.Publisher

	// Role xds.
	xds *xds.Server

	cleanup []func()
}

// open makes every part. The store comes first: its lock says whether this
// process may touch the folder at all.
func open(ctx context.Context, s settings, log *slog.Logger) (*plane, error) {
	p := &plane{settings: s, log: log, registry: newRegistry()}
	for _, step := range p.steps() {
		if err := step(ctx); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

// steps are what this process's roles need, and nothing else: a key that is
// not opened cannot leak.
func (p *plane) steps() []func(context.Context) error {
	steps := []func(context.Context) error{p.openStore, p.openIdentity, p.openListeners, p.openAudit}
	if p.settings.roles.has(roleAuthz) {
		steps = append(steps, p.openCredentials, p.openGrants, p.openProxy)
	}
	if p.settings.roles.has(roleAPI) {
		steps = append(steps, p.openGrants, p.openAPI, p.openCatalog)
	}
	if p.settings.roles.has(roleXDS) {
		steps = append(steps, p.openXDS)
	}
	return steps
}

func (p *plane) onClose(fn func()) { p.cleanup = append(p.cleanup, fn) }

func (p *plane) close() {
	for i := len(p.cleanup) - 1; i >= 0; i-- {
		p.cleanup[i]()
	}
	p.cleanup = nil
}

// auditDir is where this process's own record lies.
func (s settings) auditDir() string { return filepath.Join(s.data, "audit") }

func (p *plane) openStore(ctx context.Context) (err error) {
	if err := privateDir(p.settings.data); err != nil {
		return err
	}
	cfg := p.settings.store
	cfg.Replica, cfg.Log = p.settings.replica, p.log
	// What the record vouches for shows whether the store was put back meanwhile.
	seen := audit.SeenIn(p.settings.auditDir())
	cfg.Seen = store.State{Cluster: seen.Cluster, Epoch: seen.Epoch, Revision: seen.Revision}
	p.store, err = store.Open(ctx, cfg)
	if errors.Is(err, store.ErrLocked) {
		return fmt.Errorf("%s: %w; stop it, or use another folder with --data", p.settings.data, err)
	}
	if err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	p.onClose(func() { p.store.Close() })
	p.registry.MustRegister(newStaleness(p.store.Index().Age))
	return nil
}

func (p *plane) openIdentity(context.Context) (err error) {
	if p.settings.dev == nil {
		p.trustDomain = p.settings.trustDomain
		p.identities = workloadIdentities{p.settings.workloadSocket, p.log}
		return nil
	}
	p.authority, p.trustDomain, err = openAuthority(*p.settings.dev, p.log)
	p.identities = embeddedIdentities{p.authority}
	return err
}

func (p *plane) openListeners(context.Context) (err error) {
	if p.listeners, err = listen(p.settings); err != nil {
		return err
	}
	p.onClose(p.listeners.close)
	// What a process before this one served on says nothing about us.
	if err := client.RemoveEndpoints(p.settings.data); err != nil {
		return err
	}
	p.onClose(func() { _ = client.RemoveEndpoints(p.settings.data) }) // a stale file does no harm
	p.endpoints = p.listeners.endpoints()
	p.endpoints.TrustDomain, p.endpoints.Issuer = p.trustDomain, p.settings.issuer
	if p.endpoints.Issuer == "" {
		p.endpoints.Issuer = p.endpoints.API
	}
	if p.authority == nil {
		p.endpoints.WorkloadSocket = p.settings.workloadSocket
		return nil
	}
	p.endpoints.CAFile = filepath.Join(p.settings.data, "ca.pem")
	return os.WriteFile(p.endpoints.CAFile, p.authority.BundlePEM(), 0o644)
}

func (p *plane) openAudit(context.Context) (err error) {
	p.audit, err = audit.Open(audit.Config{
		Dir: p.settings.auditDir(), Sync: p.settings.auditSync, Registry: p.registry, Log: p.log, Clock: p.store.Now,
	})
	if err != nil {
		return fmt.Errorf("open the audit log: %w", err)
	}
	p.onClose(func() { p.audit.Close() })
	seen, now := p.audit.Seen(), p.store.State()
	p.audit.SetHistory(now.Cluster, now.Epoch)
	if seen.Epoch != "" && seen.Epoch != now.Epoch {
		p.audit.Restored(fmt.Sprintf("this record goes to revision %d of history %s; every task and grant that the store held at revision %d of history %s has ended",
			seen.Revision, seen.Epoch, now.Revision, now.Epoch))
	}
	return nil
}

func (p *plane) openCredentials(ctx context.Context) error {
	key, err := openKey(p.settings.authzKey, p.settings.dev != nil)
	if err != nil {
		return err
	}
	p.issuer, err = credential.OpenIssuer(ctx, credential.IssuerConfig{Store: p.store, Key: key, URL: p.endpoints.Issuer, Log: p.log})
	if err != nil {
		return fmt.Errorf("open the issuer: %w", err)
	}
	p.minter, err = credential.New(credential.Config{
		Store: p.store, Key: key, SecretsRoot: p.settings.secretsRoot(), Issuer: p.issuer, Recorder: records{p.audit},
		Replica: p.settings.replica, Registry: p.registry, Log: p.log,
	})
	return err
}

func (p *plane) openProxy(context.Context) (err error) {
	together := p.settings.replica // which others count with
	if p.settings.store.Dir != "" {
		together = "" // there are none
	}
	p.denials = p.grants.NewDenials(together)
	p.proxy, err = proxy.New(proxy.Config{
		Denials: p.denials,
		Index:   p.store.Index(), Now: p.store.Now, Credentials: p.minter, Consumer: p.grants, Audit: p.audit,
		Touches: p.store, Tallies: p.audit, Requester: p.grants, Registry: p.registry, Log: p.log,
	})
	return err
}

// openGrants opens the lifecycle, once: role api asks and ends, role authz
// spends uses and asks on behalf of calls.
func (p *plane) openGrants(context.Context) (err error) {
	if p.grants != nil {
		return nil
	}
	failures := grant.MintFailures(p.minter)
	if p.minter == nil {
		p.failures = credential.NewFailures(p.store)
		failures = p.failures
	}
	p.grants, err = grant.New(grant.Config{Store: p.store, Audit: p.audit, Failures: failures, Registry: p.registry, Log: p.log})
	return err
}

// openAPI opens what serves people and agents. Without role authz beside it
// there is no key here: failures and public keys come through the store.
func (p *plane) openAPI(ctx context.Context) (err error) {
	cfg := server.Config{Store: p.store, Snapshot: p.store.Snapshot, TrustDomain: p.trustDomain, Registry: p.registry, Log: p.log}
	if p.minter == nil {
		public, err := credential.OpenPublicIssuer(ctx, p.store, p.endpoints.Issuer)
		if err != nil {
			return fmt.Errorf("open the issuer's public keys: %w", err)
		}
		cfg.Issuer = public
	} else {
		cfg.Issuer = p.issuer
	}
	if p.authority != nil { // elsewhere sidecars have identities of their own
		cfg.Enroller = enroller{p}
	}
	if p.settings.dev != nil { // elsewhere nobody sits at the process's terminal
		cfg.Terminal = terminal()
	}
	if p.notifier, err = p.settings.notify.notifier(p.grants, p.endpoints.API); err != nil {
		return err
	}
	cfg.Grants = p.grants
	p.api, err = server.New(cfg)
	return err
}

func (p *plane) openXDS(context.Context) error {
	key, err := openKey(p.settings.xdsKey, p.settings.dev != nil)
	if err != nil {
		return err
	}
	p.xds, err = xds.New(xds.Config{Store: p.store, Key: key, Recorder: records{p.audit}, Registry: p.registry, Log: p.log, Wall: p.store.Now})
	return err
}

func (p *plane) openCatalog(context.Context) (err error) {
	policies, err := p.settings.policies.open(p.log)
	if err != nil {
		return err
	}
	p.publisher, err = catalog.NewPublisher(catalog.PublisherConfig{
		Dir: p.settings.catalog, Secrets: p.settings.secrets, Policies: policies, Store: p.store, Lead: p.store.Lead,
		Registry: p.registry, Clock: p.store.Now, Log: p.log,
	})
	return err
}
