package store

import (
	"fmt"
	"maps"
	"slices"
	"time"
	"unique"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store/record"
	"google.golang.org/protobuf/proto"
)

// version of every record's form that this program reads and writes.
const version = 1

// versioned is a record of package record.
type versioned interface {
	proto.Message
	GetVersion() uint32
}

// encode is deterministic, so that equal values are equal bytes. What cannot
// be encoded, text that is not UTF-8, gives nothing, which commit refuses.
func encode(m versioned) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil
	}
	return b
}

func decode(b []byte, m versioned) error {
	if err := proto.Unmarshal(b, m); err != nil {
		return ErrRecord
	}
	if m.GetVersion() != version {
		return fmt.Errorf("%w: version %d, want %d", ErrRecord, m.GetVersion(), version)
	}
	return nil
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// intern gives equal names one place in memory: agents, owners, capabilities
// and destinations are few, grants are many.
func intern(s string) string { return unique.Make(s).Value() }

func lifeRecord(l policy.Life) *record.Life {
	return &record.Life{
		State: record.State(l.State), Began: nanos(l.Began), Activated: nanos(l.Activated),
		Until: nanos(l.Until), EndedAt: nanos(l.EndedAt), End: string(l.End),
	}
}

// lifeOf reads an unknown state as none, which permits nothing.
func lifeOf(r *record.Life) policy.Life {
	l := policy.Life{
		Began: fromNanos(r.GetBegan()), Activated: fromNanos(r.GetActivated()),
		Until: fromNanos(r.GetUntil()), EndedAt: fromNanos(r.GetEndedAt()), End: policy.EndReason(intern(r.GetEnd())),
	}
	if _, known := record.State_name[int32(r.GetState())]; known {
		l.State = policy.State(r.GetState())
	}
	return l
}

func encodeTask(t policy.Task) []byte {
	return encode(&record.Task{
		Version: version, Id: string(t.ID), Agent: t.Agent, Instance: string(t.Instance), Type: t.Type,
		Purpose: t.Purpose, Context: t.Context, StartedBy: t.StartedBy, Life: lifeRecord(t.Life),
		Credential: t.Credential.Expose(),
	})
}

// decodeTask wants the record to be of the task that its key names.
func decodeTask(id policy.TaskID, b []byte) (policy.Task, error) {
	r := new(record.Task)
	if err := decode(b, r); err != nil {
		return policy.Task{}, err
	}
	if r.GetId() != string(id) {
		return policy.Task{}, ErrRecord
	}
	t := policy.Task{
		ID: id, Agent: intern(r.GetAgent()), Instance: policy.Instance(intern(r.GetInstance())), Type: intern(r.GetType()),
		Purpose: r.GetPurpose(), Context: r.GetContext(), StartedBy: intern(r.GetStartedBy()), Life: lifeOf(r.GetLife()),
	}
	if c := r.GetCredential(); c != "" {
		t.Credential = policy.NewSecret(c)
	}
	return t, nil
}

func encodeGrant(g policy.Grant) []byte {
	return encode(&record.Grant{
		Version: version, Id: string(g.ID), Task: string(g.Task), Agent: g.Agent, Owner: g.Owner,
		Instance: string(g.Instance), Capability: g.Capability, Params: g.Params, Destination: g.Destination,
		Life: lifeRecord(g.Life), Digest: g.Digest, Catalog: g.Catalog,
		Approval: string(g.Approval), MaxUses: g.MaxUses, Chain: texts(g.Chain),
	})
}

// decodeGrant wants the record to be of the grant that its key names.
func decodeGrant(task policy.TaskID, id policy.GrantID, b []byte) (policy.Grant, error) {
	r := new(record.Grant)
	if err := decode(b, r); err != nil {
		return policy.Grant{}, err
	}
	if r.GetId() != string(id) || r.GetTask() != string(task) || r.GetMaxUses() < 0 {
		return policy.Grant{}, ErrRecord
	}
	g := policy.Grant{
		ID: id, Task: task, Agent: intern(r.GetAgent()), Instance: policy.Instance(intern(r.GetInstance())),
		Capability: intern(r.GetCapability()), Params: r.GetParams(), Destination: intern(r.GetDestination()),
		Life: lifeOf(r.GetLife()), Digest: r.GetDigest(), Catalog: intern(r.GetCatalog()),
		Approval: policy.ApprovalID(r.GetApproval()), MaxUses: r.GetMaxUses(),
	}
	for _, id := range r.GetChain() {
		g.Chain = append(g.Chain, policy.GrantID(id))
	}
	for _, o := range r.GetOwner() {
		g.Owner = append(g.Owner, intern(o))
	}
	return g, nil
}

func encodeCredential(c policy.SealedCredential) []byte {
	return encode(&record.Credential{Version: version, Grant: string(c.Grant), Sealed: c.Sealed})
}

func decodeCredential(id policy.GrantID, rev int64, b []byte) (*policy.SealedCredential, error) {
	r := new(record.Credential)
	if err := decode(b, r); err != nil {
		return nil, err
	}
	if r.GetGrant() != string(id) {
		return nil, ErrRecord
	}
	return &policy.SealedCredential{Grant: id, Revision: rev, Sealed: r.GetSealed()}, nil
}

func encodeUse(u policy.Use) []byte {
	r := &record.Use{Version: version, Used: u.Used, Bytes: u.Bytes, Full: nanos(u.Full)}
	for _, x := range u.Recent {
		r.Recent = append(r.Recent, &record.RecentUse{Id: x.ID, At: nanos(x.At), Back: x.Back, Done: x.Done})
	}
	return encode(r)
}

func decodeUse(b []byte) (policy.Use, error) {
	r := new(record.Use)
	if err := decode(b, r); err != nil {
		return policy.Use{}, err
	}
	if r.GetUsed() < 0 || r.GetBytes() < 0 {
		return policy.Use{}, ErrRecord
	}
	u := policy.Use{Used: r.GetUsed(), Bytes: r.GetBytes(), Full: fromNanos(r.GetFull())}
	for _, x := range r.GetRecent() {
		u.Recent = append(u.Recent, policy.RecentUse{ID: x.GetId(), At: fromNanos(x.GetAt()), Back: x.GetBack(), Done: x.GetDone()})
	}
	return u, nil
}

func encodeCall(use string, at time.Time) []byte {
	return encode(&record.Call{Version: version, Use: use, Time: nanos(at)})
}

// decodeCall gives the use that made the call, and when; "" is none's.
func decodeCall(b []byte) (use string, at time.Time) {
	r := new(record.Call)
	if decode(b, r) != nil {
		return "", time.Time{}
	}
	return r.GetUse(), fromNanos(r.GetTime())
}

func encodeMark(at time.Time) []byte { return encode(&record.Mark{Version: version, Time: nanos(at)}) }

// texts gives IDs as records hold them.
func texts[T ~string](list []T) []string {
	if list == nil {
		return nil
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return out
}

// sameGrant reports whether a change keeps what a grant is and changes only
// where it is in its life, or takes uses away.
func sameGrant(a, b policy.Grant) bool {
	return a.ID == b.ID && a.Task == b.Task && a.Agent == b.Agent && a.Instance == b.Instance &&
		a.Capability == b.Capability && a.Destination == b.Destination && a.Approval == b.Approval && maps.Equal(a.Params, b.Params) &&
		slices.Equal(a.Chain, b.Chain) && (a.MaxUses == b.MaxUses || b.MaxUses > 0 && (a.MaxUses == 0 || b.MaxUses < a.MaxUses))
}
