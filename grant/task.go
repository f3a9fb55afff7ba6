package grant

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"slices"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// TaskRequest asks for a task. Purpose and Context are what the agent says of
// itself: kept and shown, never trusted.
type TaskRequest struct {
	Type    string
	Purpose string
	Context map[string]string
	Timeout time.Duration // 1h when zero
	// Heartbeat is how often one will come; none is expected when zero. See
	// Service.Heartbeat.
	Heartbeat time.Duration
	// Envelope names the only capabilities that may be asked for within the
	// task; whatever the agent is eligible for when empty.
	Envelope []string
}

// Bounds of a TaskRequest; lengths are bytes.
const (
	DefaultTimeout = time.Hour
	MinTimeout     = time.Second
	MaxTimeout     = 24 * time.Hour
	MaxType        = 64
	MaxPurpose     = 1024
	MaxContext     = 32 // entries
	MaxContextKey  = 64
	MaxContextText = 512
	MaxEnvelope    = 64 // capabilities

	defaultType = "task"
)

// TaskStatus is a task with its grants.
type TaskStatus struct {
	Task   policy.Task
	Grants []Status
}

// StartTask starts a task for the caller's agent on the caller's sidecar. The
// task comes back with its credential, which nothing shows again.
func (s *Service) StartTask(ctx context.Context, c Caller, r TaskRequest) (policy.Task, error) {
	if c.Agent == nil || c.Instance == "" {
		return policy.Task{}, ErrNoInstance
	}
	if err := r.check(); err != nil {
		return policy.Task{}, err
	}
	if err := r.checkEnvelope(c.Agent); err != nil {
		return policy.Task{}, err
	}
	if sus := s.index.Suspended(c.Agent.Name); sus != nil {
		return policy.Task{}, &SuspendedError{*sus}
	}
	t, err := s.newTask(c, r)
	if err != nil {
		return policy.Task{}, err
	}
	rev, err := s.store.CreateTask(ctx, t)
	if err != nil {
		return policy.Task{}, err
	}
	s.recordTask(ctx, t, policy.StateNone, rev, c.Name, "")
	// The credential works once this replica knows the task and the sidecar has
	// its room: what the caller does next must not depend on luck.
	_, err = s.settled(ctx, t.ID, func(v *policy.TaskView) bool { return v != nil })
	if err == nil {
		s.awaitRoom(ctx, t.Instance, rev)
	}
	return t, err
}

// roomWait bounds how long a new task waits for its room.
const roomWait = 2 * time.Second

// awaitRoom waits until the instance has confirmed the room of a task made at
// rev. Without it the task is there as well, and its calls get 407 until it
// is: an instance that is not connected or refuses it is not waited for.
func (s *Service) awaitRoom(ctx context.Context, instance policy.Instance, rev int64) {
	ctx, cancel := context.WithTimeout(ctx, roomWait)
	defer cancel()
	_, _ = s.store.AwaitInstance(ctx, instance, func(a store.InstanceAck, connected bool) bool {
		return !connected || a.Ready >= rev || a.Rejected != ""
	})
}

func (s *Service) newTask(c Caller, r TaskRequest) (policy.Task, error) {
	now := s.store.Now()
	life, err := policy.Transition(policy.Life{State: policy.Pending, Began: now},
		policy.Activate(now.Add(r.Timeout)), now)
	if r.Heartbeat > 0 {
		life.BeatBy = now.Add(MissedForLost * r.Heartbeat)
	}
	return policy.Task{
		Heartbeat: r.Heartbeat, Envelope: slices.Compact(slices.Sorted(slices.Values(r.Envelope))),
		ID: policy.TaskID(newID("t_")), Agent: c.Agent.Name, Instance: c.Instance, Type: r.Type,
		Purpose: r.Purpose, Context: r.Context, StartedBy: c.Name, Life: life, Credential: newCredential(),
	}, err
}

// newCredential is 256 random bits; crypto/rand ends the process rather than
// give less.
func newCredential() policy.Secret {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return policy.NewSecret(base64.RawURLEncoding.EncodeToString(b[:]))
}

// check fills in what is not said and bounds the rest.
func (r *TaskRequest) check() error {
	if r.Type == "" {
		r.Type = defaultType
	}
	if r.Timeout == 0 {
		r.Timeout = DefaultTimeout
	}
	switch {
	case !isType(r.Type):
		return invalid("type", "at most "+strconv.Itoa(MaxType)+" letters, digits, dots, dashes, underscores and slashes")
	case r.Timeout < MinTimeout || r.Timeout > MaxTimeout:
		return invalid("timeout", "between "+MinTimeout.String()+" and "+MaxTimeout.String())
	case r.Heartbeat != 0 && (r.Heartbeat < MinHeartbeat || r.Heartbeat > MaxHeartbeat):
		return invalid("heartbeat", "between "+MinHeartbeat.String()+" and "+MaxHeartbeat.String()+", or none")
	case len(r.Purpose) > MaxPurpose:
		return tooLong("claimed.purpose", MaxPurpose)
	case !isText(r.Purpose):
		return invalid("claimed.purpose", "text without control characters")
	}
	return checkContext(r.Context)
}

// checkEnvelope wants capabilities that the agent may ask for. An empty list
// that was given would read as none at all; whoever makes the request tells it
// from none given.
func (r *TaskRequest) checkEnvelope(agent *policy.Agent) error {
	if len(r.Envelope) > MaxEnvelope {
		return invalid("envelope", "at most "+strconv.Itoa(MaxEnvelope)+" capabilities")
	}
	for _, name := range r.Envelope {
		if _, ok := agent.EligibleFor(name); !ok {
			return &policy.RequestError{Code: policy.CodeNotEligible, Field: "envelope",
				Message: "The envelope names a capability that this agent may not ask for."}
		}
	}
	return nil
}

func checkContext(values map[string]string) error {
	const field = "claimed.context"
	if len(values) > MaxContext {
		return invalid(field, "at most "+strconv.Itoa(MaxContext)+" entries")
	}
	for k, v := range values {
		switch {
		case len(k) > MaxContextKey:
			return invalid(field, "names of at most "+strconv.Itoa(MaxContextKey)+" bytes")
		case len(v) > MaxContextText:
			return invalid(field, "values of at most "+strconv.Itoa(MaxContextText)+" bytes")
		case !isText(k) || !isText(v):
			return invalid(field, "text without control characters")
		}
	}
	return nil
}

func isType(s string) bool {
	for _, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && r != '.' && r != '-' && r != '_' && r != '/' {
			return false
		}
	}
	return s != "" && len(s) <= MaxType
}

// isText keeps out what could make people read something else than is there:
// terminal control and characters that turn the direction of writing.
func isText(s string) bool {
	for _, r := range s {
		if unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r) {
			return false
		}
	}
	return utf8.ValidString(s)
}

// Task reads a task with its grants.
func (s *Service) Task(ctx context.Context, c Caller, id policy.TaskID) (TaskStatus, error) {
	v, err := s.view(ctx, id)
	if v, err = s.readable(c, v, err); err != nil {
		return TaskStatus{}, err
	}
	return s.statusOf(ctx, v), nil
}

func (s *Service) statusOf(ctx context.Context, v *policy.TaskView) TaskStatus {
	// One budget for all of them: a task with many grants is no slower to read.
	ctx, cancel := context.WithTimeout(ctx, instant)
	defer cancel()
	out := TaskStatus{Task: v.Task, Grants: make([]Status, 0, len(v.Held))}
	for _, h := range v.Held {
		out.Grants = append(out.Grants, s.look(ctx, h))
	}
	return out
}

// Tasks lists the tasks that the caller may see: an operator all, people those
// of the agents that they may view, an agent its own sidecar's.
func (s *Service) Tasks(c Caller) []policy.Task {
	var out []policy.Task
	add := func(v *policy.TaskView) bool {
		if c.maySee(v.Task, s.ownerOf(v.Task.Agent)) {
			out = append(out, v.Task)
		}
		return true
	}
	if c.MayAny(policy.VerbView) {
		s.index.EachTask(add)
		return out
	}
	for _, v := range s.index.Instance(c.Instance) {
		add(v)
	}
	return out
}
