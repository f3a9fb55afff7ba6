package grant

import (
	"context"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// Status is a grant and whether it can be used.
type Status struct {
	Grant policy.Grant
	// Used is how many calls used it, if that is limited.
	Used int64
	// Ready: the very next call under the grant succeeds.
	Ready bool
	// Waiting says what an active grant that is not ready waits for.
	Waiting Waiting
	// Why says in words what went wrong, if something did.
	Why string
}

// Waiting names what a grant or an ending waits for; empty when for nothing.
type Waiting string

// What there is to wait for.
const (
	WaitApproval     Waiting = "approval"             // people have not decided yet
	WaitCredential   Waiting = "credential"           // it is not minted yet
	WaitReplicas     Waiting = "replicas"             // an authz replica has not applied it yet
	WaitSidecar      Waiting = "sidecar"              // the sidecar is not configured yet
	WaitDisconnected Waiting = "sidecar_disconnected" // no sidecar is connected
	WaitRejected     Waiting = "sidecar_rejected"     // the sidecar refused its configuration
)

var waitingWords = map[Waiting]string{
	WaitApproval:     "People have not approved it yet; read it with wait until they have.",
	WaitCredential:   "The credential has not been minted yet.",
	WaitReplicas:     "Not every authz replica has applied it yet.",
	WaitSidecar:      "The sidecar has not confirmed its configuration yet.",
	WaitDisconnected: "The sidecar is not connected; check that it runs.",
	WaitRejected:     "The sidecar rejected its configuration; an operator sees why in the list of sidecars.",
}

// Get reads a grant. With wait it returns once the grant is ready or has
// ended, and after wait at the latest.
func (s *Service) Get(ctx context.Context, c Caller, id policy.GrantID, wait time.Duration) (Status, error) {
	v, err := s.taskOf(ctx, id)
	if v, err = s.readable(c, v, err); err != nil {
		return Status{}, err
	}
	return s.await(ctx, v.Task.ID, id, wait)
}

// await follows a grant until it is ready, has ended or wait has passed. Not
// having waited long enough is no error: the Status says what is missing.
func (s *Service) await(ctx context.Context, task policy.TaskID, id policy.GrantID, wait time.Duration) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, max(wait, instant))
	defer cancel()
	s.decided(ctx, task, id)
	if _, err := s.minted(ctx, task, id); err != nil && ctx.Err() == nil {
		return Status{}, err
	}
	h := held(s.index.Task(task), id)
	if h == nil {
		return Status{}, ErrNotFound // forgotten: it ended long ago
	}
	if why := s.failure(id); why != "" && h.Credential == nil {
		return s.abandon(ctx, h, why)
	}
	waiting := s.missing(ctx, h)
	// It may have ended while the rest was waited for; then that is the answer.
	if now := held(s.index.Task(task), id); now != nil {
		h = now
	}
	return s.told(ctx, s.status(h, waiting)), nil
}

// told adds why people did not approve a grant.
func (s *Service) told(ctx context.Context, st Status) Status {
	g := st.Grant
	if st.Why != "" || g.State != policy.Ended || g.Approval == "" || !g.Activated.IsZero() {
		return st
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), instant)
	defer cancel()
	if asked, err := s.store.GetApproval(ctx, g.Approval); err == nil { // how it ended is told without it
		st.Why = asked.Approval.Comment
	}
	return st
}

// instant is how long an answer that does not wait may take to be put
// together: acknowledgements that are already here are read within it.
const instant = 100 * time.Millisecond

// look is the Status as it is now.
func (s *Service) look(ctx context.Context, h *policy.Held) Status {
	ctx, cancel := context.WithTimeout(ctx, instant)
	defer cancel()
	return s.status(h, s.missing(ctx, h))
}

func (s *Service) status(h *policy.Held, waiting Waiting) Status {
	g := effective(h, s.store.Now())
	if g.State == policy.Pending {
		return Status{Grant: g, Waiting: WaitApproval, Why: waitingWords[WaitApproval]}
	}
	if g.State != policy.Active {
		return Status{Grant: g, Used: h.Use.Used, Why: s.failure(g.ID)}
	}
	return Status{Grant: g, Used: h.Use.Used, Ready: waiting == "", Waiting: waiting, Why: waitingWords[waiting]}
}

// effective is the grant with what ended it applied, though nobody may have
// written that down yet: expiry needs no writer, and a floor ends many at once.
func effective(h *policy.Held, now time.Time) policy.Grant {
	g := h.Grant
	if (g.State == policy.Active || g.State == policy.Pending) && (!now.Before(g.Until) || h.Raised()) {
		if l, err := policy.Transition(g.Life, policy.End(policy.EndRevoked), now); err == nil {
			g.Life = l
		}
	}
	return g
}

// decided waits until people have decided on a pending grant, or its time to
// wait for them is over; at once for any other.
func (s *Service) decided(ctx context.Context, task policy.TaskID, id policy.GrantID) {
	h := held(s.index.Task(task), id)
	if h == nil || h.Grant.State != policy.Pending {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, h.Grant.Until.Sub(s.store.Now()))
	defer cancel()
	// Being late is no error: what is read after it says that it still waits.
	_, _ = s.index.AwaitTask(ctx, task, func(v *policy.TaskView) bool {
		h := held(v, id)
		return h == nil || effective(h, s.store.Now()).State != policy.Pending
	})
}

// usable reports whether the index would let a call out under h.
func (s *Service) usable(h *policy.Held) bool {
	return h != nil && h.Grant.Live(s.store.Now()) && !h.Raised()
}

// unminted reports whether h still needs a credential.
func unminted(h *policy.Held) bool {
	return h.Credential == nil && (h.Resolved == nil || h.Resolved.Provider != nil)
}

// minted waits until the grant has its credential, needs none, will never have
// one, or has ended.
func (s *Service) minted(ctx context.Context, task policy.TaskID, id policy.GrantID) (*policy.TaskView, error) {
	cond := func(v *policy.TaskView) bool {
		h := held(v, id)
		// A grant that this process has not heard of yet is on its way.
		return h != nil && (!unminted(h) || !s.usable(h) || s.failure(id) != "")
	}
	for {
		// A failure changes nothing that the index follows, so it is asked for.
		slice, cancel := context.WithTimeout(ctx, failureEvery)
		v, err := s.index.AwaitTask(slice, task, cond)
		late := slice.Err() != nil
		cancel()
		if err == nil || ctx.Err() != nil || !late {
			return v, err
		}
	}
}

// failureEvery is how often a grant that waits for its credential asks
// whether minting has failed for good.
const failureEvery = 100 * time.Millisecond

func (s *Service) failure(id policy.GrantID) string {
	if s.failures == nil {
		return ""
	}
	return s.failures.Failure(id)
}

// abandon ends a grant that will never have a credential: it must not stand
// there as active while no call can succeed.
func (s *Service) abandon(ctx context.Context, h *policy.Held, why string) (Status, error) {
	g, _, err := s.endGrant(ctx, h.Grant, policy.EndFailed, byService, why)
	if err != nil {
		return Status{}, err
	}
	return Status{Grant: g, Why: why}, nil
}

// missing waits, as long as ctx allows, until nothing is missing for h to be
// used, and says what still is.
func (s *Service) missing(ctx context.Context, h *policy.Held) Waiting {
	if !s.usable(h) {
		return ""
	}
	if unminted(h) {
		return WaitCredential
	}
	ctx, stop := s.whileUsable(ctx, h)
	defer stop()
	rev := h.ChangedAt
	if h.Credential != nil {
		rev = max(rev, h.Credential.Revision)
	}
	if s.store.AwaitReplicas(ctx, roleAuthz, rev) != nil {
		return WaitReplicas
	}
	return s.configured(ctx, h)
}

// configured waits until the instance has confirmed what h needs.
func (s *Service) configured(ctx context.Context, h *policy.Held) Waiting {
	var last store.InstanceAck
	var connected bool
	_, err := s.store.AwaitInstance(ctx, h.Grant.Instance, func(a store.InstanceAck, ok bool) bool {
		last, connected = a, ok
		return ok && a.Ready >= h.ChangedAt
	})
	switch {
	case err == nil:
		return ""
	case !connected:
		return WaitDisconnected
	case last.Rejected != "":
		return WaitRejected
	}
	return WaitSidecar
}

// whileUsable gives a context that ends when h does, so that nobody waits for
// the readiness of what has ended.
func (s *Service) whileUsable(ctx context.Context, h *policy.Held) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(ctx, h.Grant.Until.Sub(s.store.Now()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := s.index.AwaitTask(ctx, h.Grant.Task, func(v *policy.TaskView) bool {
			return !s.usable(held(v, h.Grant.ID))
		})
		if err == nil {
			cancel()
		}
	}()
	return ctx, func() { cancel(); <-done }
}
