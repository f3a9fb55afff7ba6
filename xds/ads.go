package xds

import (
	"context"
	"slices"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// DeltaAggregatedResources serves one sidecar's Envoy. It ends with the stream.
func (s *Server) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	ctx := stream.Context()
	instance, agent, err := s.caller(ctx)
	if err != nil {
		return err
	}
	v, release, err := s.vaults.hold(ctx, instance)
	if err != nil {
		return err
	}
	defer release()
	sess := newSession(v, stream.Send)
	m := s.fleet.join(instance, agent, sess)
	defer s.fleet.leave(m)
	sess.refusal = func(k kind, name, detail string) { s.rejected(ctx, m, k, name, detail) }
	return s.serve(ctx, m, receiving(ctx, stream.Recv))
}

// receiving reads requests until the stream ends, then closes the channel. They
// queue up while the session works, so that one pass answers many.
func receiving[T any](ctx context.Context, recv func() (T, error)) <-chan T {
	out := make(chan T, 256)
	go func() {
		defer close(out)
		for {
			req, err := recv()
			if err != nil {
				return
			}
			select {
			case out <- req:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// serve runs a session: it alone touches it.
func (s *Server) serve(ctx context.Context, m *member, requests <-chan *discoveryv3.DeltaDiscoveryRequest) error {
	renew := time.NewTimer(s.untilWindow())
	defer renew.Stop()
	look := time.NewTicker(orphanedAfter / 5)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			if s.orphaned() {
				return errOrphaned
			}
			continue
		case <-m.wake:
		case <-renew.C:
			m.session.secretsDue = true
			renew.Reset(s.untilWindow())
		case req, ok := <-requests:
			if !ok {
				return nil
			}
			if err := m.session.receiveAll(req, requests); err != nil {
				return err
			}
		}
		s.take(m)
		if err := m.session.advance(); err != nil {
			return err
		}
		s.observe(m)
		s.fleet.report(ctx, m)
	}
}

// receiveAll takes a request and what else has come by now.
func (s *session) receiveAll(req *discoveryv3.DeltaDiscoveryRequest, more <-chan *discoveryv3.DeltaDiscoveryRequest) error {
	for {
		if err := s.receive(req); err != nil {
			return err
		}
		select {
		case next, ok := <-more:
			if !ok {
				return nil // the caller's next read sees the end
			}
			req = next
		default:
			return nil
		}
	}
}

// take gives the session the newest config.
func (s *Server) take(m *member) {
	old, c := m.session.want, m.config.Load()
	if c == old {
		return
	}
	m.session.want = c
	if old == nil || !slices.Equal(old.rooms, c.rooms) {
		m.readySince, m.cutSince = s.wall(), s.wall()
	}
}

// observe measures how long a change took to come into force.
func (s *Server) observe(m *member) {
	if m.session.want == nil {
		return
	}
	if !m.readySince.IsZero() && m.session.ready == m.session.want.revision {
		s.metrics.observe("ready", s.wall().Sub(m.readySince))
		m.readySince = time.Time{}
	}
	if !m.cutSince.IsZero() && m.session.cut == m.session.want.revision {
		s.metrics.observe("cut", s.wall().Sub(m.cutSince))
		m.cutSince = time.Time{}
	}
}

// untilWindow is how long the leaves that are signed now stay the ones to have.
func (s *Server) untilWindow() time.Duration {
	now := s.wall()
	return nextWindow(now).Sub(now)
}

// rejected is where a refusal leaves the stream: it is shown, counted, recorded.
func (s *Server) rejected(ctx context.Context, m *member, k kind, name, detail string) {
	s.metrics.rejections.WithLabelValues(k.String()).Inc()
	s.log.ErrorContext(ctx, "configuration rejected",
		"instance", m.instance.id, "agent", m.agent, "type", k.String(), "resource", name, "detail", detail)
	s.record(ctx, m, Event{Resource: k.String() + " " + name, Detail: detail})
}

func (s *Server) record(ctx context.Context, m *member, e Event) {
	if s.recorder == nil {
		return
	}
	e.Time, e.Instance, e.Agent = s.wall(), m.instance.id, m.agent
	if c := m.session.want; c != nil {
		e.Revision = c.revision
	}
	s.recorder.SidecarConfig(ctx, e)
}
