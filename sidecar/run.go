package sidecar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/exeat-dev/exeat/identity"
)

// Run is one sidecar instance from start to end. It calls ready once, when the
// proxy and the API's listener are in force and the agent's bundle is written,
// and returns nil when ctx ends. Envoy never outlives it.
//
// An error before ready says what is missing; after that, only what cannot heal
// by itself ends Run: Envoy is started again, the control plane dialled again.
func Run(ctx context.Context, c Config, ready func(Status)) error {
	s, err := c.check()
	if err != nil {
		return err
	}
	if s.Envoy, err = FindEnvoy(s.Envoy); err != nil {
		return err
	}
	dir, done, err := openRunDir(s.RunDir)
	if err != nil {
		return fmt.Errorf("sidecar: the run folder: %w", err)
	}
	defer done()
	s.RunDir = dir
	if s.BundleDir == "" {
		s.BundleDir = dir
	}
	starting, cancel := context.WithTimeout(ctx, s.StartTimeout)
	defer cancel()
	own, err := identity.OpenWorkload(starting, s.WorkloadSocket, s.instance, s.Log)
	if err != nil {
		return fmt.Errorf("sidecar: %w", err)
	}
	defer own.Close()
	parts, err := s.assemble(own)
	if err != nil {
		return err
	}
	return parts.run(ctx, starting, ready)
}

// parts are what works together in one running sidecar.
type parts struct {
	settings
	own        *identity.Workload
	plan       blueprint
	supervisor *supervisor
	trust      *trust
	bundle     bundle

	group sync.WaitGroup
}

func (s settings) assemble(own *identity.Workload) (*parts, error) {
	svid, err := own.GetX509SVID()
	if err != nil {
		return nil, fmt.Errorf("sidecar: %w", err)
	}
	if s.TrustDomain == "" {
		s.TrustDomain = svid.ID.TrustDomain().Name()
	}
	plan := blueprint{dir: s.RunDir, instance: svid.ID, servers: s.servers, egress: s.egress, apiListen: s.apiListen}
	var errs [3]error
	plan.grpcServer, errs[0] = identity.GRPCServer(s.TrustDomain)
	plan.apiServer, errs[1] = identity.APIServer(s.TrustDomain)
	p := &parts{settings: s, own: own, plan: plan, bundle: bundle{dir: s.BundleDir, clock: time.Now, log: s.Log}}
	p.trust, errs[2] = newTrust(s.grpc, own, plan.grpcServer, svid.ID, s.Log)
	p.supervisor = &supervisor{envoy: s.Envoy, plan: plan, gate: &gate{}, admin: newAdmin(s.RunDir), stop: s.StopTimeout, log: s.Log}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("sidecar: %w", err)
	}
	return p, nil
}

// run starts every part, waits for all to be ready, and then for the end.
func (p *parts) run(ctx, starting context.Context, ready func(Status)) error {
	listener, err := identity.ListenUnix(filepath.Join(p.RunDir, identitySocket))
	if err != nil {
		return fmt.Errorf("sidecar: is another one using this run folder? %w", err)
	}
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	sds := identity.NewSDS(p.own, p.supervisor.gate.check, p.Log)
	p.start(stop, func() error { return sds.ServeOn(running, listener) })
	trusted := make(chan struct{})
	p.start(stop, func() error {
		p.trust.follow(running, p.writeBundle(sync.OnceFunc(func() { close(trusted) })))
		return nil
	})
	listening := make(chan ports, 1)
	p.start(stop, func() error { return p.supervisor.run(running, func(at ports) { listening <- at }) })

	if at, err := p.awaitReady(running, starting, listening, trusted); err != nil {
		stop(err)
	} else {
		ready(p.status(at))
	}
	<-running.Done()
	p.group.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(running)
}

// start runs a part; its error ends all of them.
func (p *parts) start(stop context.CancelCauseFunc, part func() error) {
	p.group.Go(func() {
		if err := part(); err != nil {
			stop(err)
		}
	})
}

func (p *parts) writeBundle(written func()) func(ca []byte) error {
	return func(ca []byte) error {
		if err := p.bundle.write(ca); err != nil {
			p.Log.Error("the agent's bundle cannot be written", "error", err)
			return errors.New("the bundle cannot be written")
		}
		written()
		return nil
	}
}

// awaitReady waits until Envoy listens and the agent's bundle is there.
func (p *parts) awaitReady(running, starting context.Context, listening <-chan ports, trusted <-chan struct{}) (ports, error) {
	var at ports
	for listening != nil || trusted != nil {
		select {
		case at = <-listening:
			listening = nil
		case <-trusted:
			trusted = nil
		case <-running.Done():
			return ports{}, context.Cause(running)
		case <-starting.Done():
			return ports{}, p.tooLate(listening == nil)
		}
	}
	return at, nil
}

func (p *parts) tooLate(envoyReady bool) error {
	missing := errors.New("the control plane has not sent the interception CA: does its catalog know this sidecar?")
	if !envoyReady {
		missing = cmp.Or(p.supervisor.missing(), errNotLive)
	}
	return fmt.Errorf("sidecar: not ready after %v: %w", p.StartTimeout, missing)
}

func (p *parts) status(at ports) Status {
	return Status{
		Proxy: at.egress.String(), API: "http://" + at.api.String(),
		CABundle: p.bundle.path(), CAFile: p.bundle.caPath(), TrustStore: p.bundle.store(),
		Instance: p.plan.instance.String(), ClientEnv: p.ClientEnv,
	}
}
