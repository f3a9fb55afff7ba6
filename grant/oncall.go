package grant

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// byCall is who asks where a call did by being made.
const byCall = "exeat/on-call"

// onCallMargin is what is left of a check's time for the call itself.
const onCallMargin = 200 * time.Millisecond

// errNotReady: the grant is there, and the call came too early for it.
var errNotReady = errors.New("the grant is not ready in time")

// RequestOnCall asks for a grant for a task's own agent because a call of it
// was made. It is a request like any other, and returns once the grant is
// ready. Calls that ask for the same at once ask once.
func (s *Service) RequestOnCall(ctx context.Context, task policy.TaskID, n policy.Next) error {
	_, err, _ := s.calls.Do(string(task)+"\x00"+n.Capability+"\x00"+paramKey(n.Params), func() (any, error) {
		return nil, s.requestOnCall(ctx, task, n)
	})
	return err
}

func (s *Service) requestOnCall(ctx context.Context, task policy.TaskID, n policy.Next) error {
	v, cat := s.index.Task(task), s.index.Catalog()
	if v == nil || cat == nil {
		return ErrNotFound
	}
	agent, ok := cat.Agent(v.Task.Agent)
	if !ok {
		return ErrNotFound
	}
	// Another call may have got it since this one was judged.
	i := slices.IndexFunc(v.Held, func(h *policy.Held) bool {
		return s.usable(h) && h.Grant.Capability == n.Capability && maps.Equal(h.Grant.Params, n.Params)
	})
	var st Status
	var err error
	if i >= 0 {
		st, err = s.await(ctx, task, v.Held[i].Grant.ID, onCallWait(ctx))
	} else {
		c := Caller{Agent: agent, Instance: v.Task.Instance, TaskFromRoom: task, Name: byCall}
		st, err = s.Request(ctx, c, Request{Task: task, Capability: n.Capability, Params: n.Params}, onCallWait(ctx))
	}
	if err == nil && !st.Ready {
		err = errNotReady
	}
	return err
}

// onCallWait is how long the check that asks can wait.
func onCallWait(ctx context.Context) time.Duration {
	end, ok := ctx.Deadline()
	if !ok {
		return time.Second
	}
	return max(0, time.Until(end)-onCallMargin)
}

func paramKey(params map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(params)) {
		b.WriteString(k + "\x00" + params[k] + "\x00")
	}
	return b.String()
}
