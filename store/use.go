package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Errors of Consume besides ErrFloor, ErrConflict, ErrNotFound (the grant or
// one that it descends from is not active any more) and ErrFull.
var (
	ErrExhausted = errors.New("nothing is left of the grant's limits")
	ErrReplayed  = errors.New("this call was made before")
)

// RateError: too many calls for the grant's rate.
type RateError struct{ After time.Duration } // until one may be made

func (e *RateError) Error() string { return "too many calls; wait " + e.After.String() }

const (
	// sameCheck is how long a sidecar may ask again about the same call.
	sameCheck = 10 * time.Second
	// keepRecent and maxRecent bound what a record keeps of single uses.
	// Forgetting one is safe: it is not given back, or is spent twice.
	keepRecent, maxRecent = time.Minute, 64
	// maxCalls bounds the calls with a name of their own in one task, so that
	// no agent fills the store.
	maxCalls = 4096
	// unknownTries bounds the looks at a transaction whose outcome is unknown.
	unknownTries = 4
)

var errCalls = fmt.Errorf("%w: the task has made %d calls with names of their own", ErrFull, maxCalls)

// UseLink is one grant that a use is a use of. The number of uses is the
// grant's own, as its record says.
type UseLink struct {
	Task   policy.TaskID
	Grant  policy.GrantID
	Limits policy.Limits
}

// Use is one use of a grant and of all that it descends from.
type Use struct {
	policy.UseRequest
	Links []UseLink // the root first; the grant that the call is made under last
}

// Consume spends one use of every limited grant of a chain, in one transaction
// that compares: each grant and its task are active and unchanged, no floor of
// theirs rose since they were made, what was used is as it was read, and the
// call's name, if it has one, is new to its task. It gives what is used of the
// last grant then, also with ErrExhausted.
//
// The same ID spends once, however often and on whichever replica it comes.
// When an answer of etcd is lost, the ID is looked for by a linearizable read.
// If it is not there, the lost transaction may still come into effect; so the
// next one compares with the same revision, and at most one of the two can
// win. On an error besides those named the use may be spent or not.
func (s *Store) Consume(ctx context.Context, u Use) (policy.Use, error) {
	const op = "use grant"
	if len(u.Links) == 0 || u.ID == "" {
		return policy.Use{}, fmt.Errorf("%s: %w", op, ErrConflict)
	}
	if err := s.room(); err != nil {
		return policy.Use{}, fmt.Errorf("%s: %w", op, err)
	}
	// One at a time from this process: what would only collide waits here.
	leave, err := s.turns.enter(ctx, u.Links[0].Grant)
	if err != nil {
		return policy.Use{}, fmt.Errorf("%s: %w", op, err)
	}
	defer leave()
	for tries := 0; ; {
		x, err := s.readUse(ctx, op, u)
		if err != nil {
			return policy.Use{}, err
		}
		done, err := x.spend(s.Now())
		if done || err != nil {
			return x.links[len(x.links)-1].use, wrapped(op, err)
		}
		ok, _, err := s.commit(ctx, op, x.cmps, x.puts...)
		switch {
		case ok:
			return x.links[len(x.links)-1].next, nil
		case err == nil:
			if err := s.whyNotUsed(ctx, op, x); err != nil {
				return policy.Use{}, err
			}
		case errors.Is(err, ErrFull), ctx.Err() != nil, tries == unknownTries:
			return policy.Use{}, err
		default:
			tries++
		}
	}
}

func wrapped(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", op, err)
}

// using is one attempt at a use, on what was read as of one moment.
type using struct {
	Use
	links []usedLink // as Links
	call  *mvccpb.KeyValue
	calls int64 // names of calls in the task
	cmps  []clientv3.Cmp
	puts  []clientv3.Op
}

type usedLink struct {
	UseLink
	grant policy.Grant
	gkv   *mvccpb.KeyValue
	task  policy.Task
	tkv   *mvccpb.KeyValue
	use   policy.Use
	ukv   *mvccpb.KeyValue // nil: never used
	next  policy.Use       // with this use
}

// readUse reads everything that a use depends on but the floors, which are
// compared alone.
func (s *Store) readUse(ctx context.Context, op string, u Use) (*using, error) {
	x := &using{Use: u}
	var gets []clientv3.Op
	for _, l := range u.Links {
		gets = append(gets, clientv3.OpGet(keyGrant(l.Task, l.Grant)), clientv3.OpGet(keyTask(l.Task)), clientv3.OpGet(keyUse(l.Task, l.Grant)))
	}
	last := u.Links[len(u.Links)-1]
	if u.Call != "" {
		gets = append(gets, clientv3.OpGet(keyCall(last.Task, u.Call)),
			clientv3.OpGet(keyCalls(last.Task), clientv3.WithPrefix(), clientv3.WithCountOnly()))
	}
	r, err := s.client.Txn(ctx).Then(gets...).Commit()
	if err != nil {
		return nil, s.txnError(op, err)
	}
	at := func(i int) *mvccpb.KeyValue {
		if kvs := r.Responses[i].GetResponseRange().GetKvs(); len(kvs) > 0 {
			return kvs[0]
		}
		return nil
	}
	for i, l := range u.Links {
		link := usedLink{UseLink: l, gkv: at(3 * i), tkv: at(3*i + 1), ukv: at(3*i + 2)}
		if err := link.decode(); err != nil {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
		x.links = append(x.links, link)
	}
	if u.Call != "" {
		n := 3 * len(u.Links)
		x.call, x.calls = at(n), r.Responses[n+1].GetResponseRange().GetCount()
	}
	return x, nil
}

func (l *usedLink) decode() (err error) {
	if l.gkv == nil || l.tkv == nil {
		return ErrNotFound
	}
	if l.grant, err = decodeGrant(l.Task, l.Grant, l.gkv.Value); err != nil {
		return err
	}
	if l.task, err = decodeTask(l.Task, l.tkv.Value); err != nil {
		return err
	}
	if l.ukv != nil {
		if l.use, err = decodeUse(l.ukv.Value); err != nil {
			return err
		}
	}
	l.Limits.MaxUses = l.grant.MaxUses
	return nil
}
