package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// consume spends a use where the grant is limited or the call has a name of
// its own; any other call costs nothing here. When the store knows the grant
// to be exhausted before this replica does, another grant may still serve.
func (s *Server) consume(ctx context.Context, c *check) policy.Reason {
	for range c.view.Held {
		held := c.decision.Held
		limits := held.Limits()
		if !limits.Bound() && c.call.ID == "" {
			return policy.Allowed
		}
		if !c.name() {
			return policy.MalformedCall
		}
		spent := s.consumer.Consume(ctx, held, policy.UseRequest{ID: c.call.UseID, Call: c.call.ID})
		switch {
		case spent.Reason == policy.Allowed:
			c.used = limits.Bound()
			return policy.Allowed
		case spent.Reason != policy.UsesExhausted || spent.Use == nil:
			c.after = spent.After
			return spent.Reason
		}
		c.view = c.view.With(held.Grant.ID, *spent.Use)
		if c.decision = s.decide(ctx, c); !c.decision.Allowed() {
			return c.decision.Reason
		}
		if c.untouched() != nil { // the other grant reaches what is not durable yet
			return policy.StateStale
		}
	}
	return policy.UsesExhausted
}

// asksAgain reports whether the check comes once more for a call that has its
// use of the grant already: Envoy did not hear the answer.
func (c *check) asksAgain(held *policy.Held) bool {
	return held != nil && len(held.Use.Recent) > 0 && c.name() && held.Use.Find(c.call.UseID) >= 0
}

// name gives the call the ID of its use: the same for the same Check, on
// whichever replica. It stands on Envoy's own number for the stream, which the
// agent cannot choose, and on what is called. Without that number, which Envoy
// always sends, there is no telling two calls apart.
func (c *check) name() bool {
	if c.stream == "" || c.request.id == "" {
		return false
	}
	if c.call.UseID == "" {
		h := sha256.New()
		for _, part := range []string{
			string(c.instance), c.stream, c.request.id, c.raw.Method, c.raw.Scheme, c.raw.Authority, c.raw.Target, c.call.ID,
		} {
			var n [4]byte
			binary.BigEndian.PutUint32(n[:], uint32(len(part)))
			h.Write(n[:])
			h.Write([]byte(part))
		}
		c.call.UseID = base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
	}
	return true
}

const (
	settleTime  = 2 * time.Second // bounds the settling of one use
	maxSettling = 64              // at once; more entries wait
)

// settle has it told how the call of a use ended. That takes a transaction,
// which other entries need not wait for, and goes on when the stream that
// brought the entry has ended: it may be all that is left of it.
func (s *Server) settle(ctx context.Context, e *entry) {
	end, ok := e.end()
	if e.use == "" || e.held == nil || !ok {
		return
	}
	s.settling <- struct{}{}
	go func() {
		defer func() { <-s.settling }()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
		defer cancel()
		s.settleNow(ctx, e, end)
	}()
}

func (s *Server) settleNow(ctx context.Context, e *entry, end policy.CallEnd) {
	defer func() {
		if recover() != nil {
			s.log.LogAttrs(ctx, slog.LevelError, "settling panicked", slog.String("stack", string(debug.Stack())))
		}
	}()
	if err := s.consumer.Settle(ctx, e.held, e.use, end); err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "the end of a call was not settled; what it used stays used",
			slog.String("decision", e.decision), slog.Any("error", err))
	}
}

// end is what the entry tells of a use, if there is anything to settle. The
// connection failed when Envoy says so, had no answer of the upstream and sent
// it nothing of the call.
func (e *entry) end() (policy.CallEnd, bool) {
	p, q, r := e.GetCommonProperties(), e.GetRequest(), e.GetResponse()
	end := policy.CallEnd{
		Unreached: p.GetResponseFlags().GetUpstreamConnectionFailure() && p.GetUpstreamWireBytesSent() == 0 &&
			r.GetResponseCodeDetails() != viaUpstream,
	}
	for _, n := range []uint64{q.GetRequestHeadersBytes(), q.GetRequestBodyBytes(), r.GetResponseHeadersBytes(), r.GetResponseBodyBytes()} {
		end.Bytes += int64(min(n, 1<<48))
	}
	return end, end.Unreached || e.held != nil && e.held.Limits().Bytes > 0
}
