package store

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store/record"
	"pgregory.net/rapid"
)

// names that keys and records must keep apart, whatever is in them.
var anyName = rapid.StringN(0, 12, -1)

func drawTime(t *rapid.T, label string) time.Time {
	return fromNanos(rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(1, 1<<62)).Draw(t, label))
}

func drawLife(t *rapid.T) policy.Life {
	return policy.Life{
		State: policy.State(rapid.IntRange(0, 4).Draw(t, "state")), Began: drawTime(t, "began"),
		Activated: drawTime(t, "activated"), Until: drawTime(t, "until"), EndedAt: drawTime(t, "ended"),
		End: policy.EndReason(anyName.Draw(t, "end")), BeatBy: drawTime(t, "beat by"),
	}
}

func drawMap(t *rapid.T, label string) map[string]string {
	m := rapid.MapOfN(anyName, anyName, 0, 4).Draw(t, label)
	if len(m) == 0 {
		return nil
	}
	return m
}

func TestRecordsReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		task := policy.Task{
			ID: policy.TaskID(anyName.Draw(t, "id")), Agent: anyName.Draw(t, "agent"), Instance: policy.Instance(anyName.Draw(t, "instance")),
			Type: anyName.Draw(t, "type"), Purpose: anyName.Draw(t, "purpose"), Context: drawMap(t, "context"),
			StartedBy: anyName.Draw(t, "by"), Life: drawLife(t), Credential: policy.NewSecret(anyName.Draw(t, "secret")),
			Heartbeat: time.Duration(rapid.Int64().Draw(t, "heartbeat")), PausedBy: anyName.Draw(t, "paused by"), AgentDigest: anyName.Draw(t, "agent digest"),
		}
		if envelope := rapid.SliceOfN(anyName, 0, 3).Draw(t, "envelope"); len(envelope) > 0 {
			task.Envelope = envelope
		}
		got, err := decodeTask(task.ID, encodeTask(task))
		if got.Credential.Expose() != task.Credential.Expose() {
			t.Fatal("the credential reads as another")
		}
		got.Credential, task.Credential = policy.Secret{}, policy.Secret{}
		if err != nil || !reflect.DeepEqual(got, task) {
			t.Fatalf("task %+v, %v\nwant %+v", got, err, task)
		}
		g := policy.Grant{
			ID: policy.GrantID(anyName.Draw(t, "grant")), Task: task.ID, Agent: task.Agent, Instance: task.Instance,
			Capability: anyName.Draw(t, "capability"), Params: drawMap(t, "params"), Destination: anyName.Draw(t, "destination"),
			Life: drawLife(t), Digest: anyName.Draw(t, "digest"), Catalog: anyName.Draw(t, "catalog"),
			Renews: policy.GrantID(anyName.Draw(t, "renews")), AgentDigest: anyName.Draw(t, "agent digest"),
		}
		if owners := rapid.SliceOfN(anyName, 0, 3).Draw(t, "owner"); len(owners) > 0 {
			g.Owner = owners
		}
		if got, err := decodeGrant(g.Task, g.ID, encodeGrant(g)); err != nil || !reflect.DeepEqual(got, g) {
			t.Fatalf("grant %+v, %v\nwant %+v", got, err, g)
		}
		if _, err := decodeGrant(g.Task, g.ID+"x", encodeGrant(g)); !errors.Is(err, ErrRecord) {
			t.Fatalf("another grant's record: %v", err)
		}
	})
}

func TestEveryStateIsOneOfTheRecords(t *testing.T) {
	t.Parallel()
	for state := policy.StateNone; state <= policy.Paused; state++ {
		if _, ok := record.State_name[int32(state)]; !ok {
			t.Errorf("state %v has no record", state)
		}
	}
	l := lifeOf(&record.Life{State: 77})
	if l.State != policy.StateNone {
		t.Errorf("an unknown state reads as %v", l.State)
	}
}

func TestWhatCannotBeWrittenIsRefused(t *testing.T) {
	t.Parallel()
	if b := encodeTask(policy.Task{ID: "t_1", Purpose: "\xff"}); len(b) != 0 {
		t.Errorf("text that is not UTF-8 gave a record of %d bytes", len(b))
	}
	if _, err := decodeTask("t_1", nil); !errors.Is(err, ErrRecord) {
		t.Errorf("an empty record: %v", err)
	}
}

func TestNamesCannotReachOutOfTheirPlace(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
		got := names(join(prefixCut, a, b), prefixCut, 2)
		if len(got) != 2 || got[0] != a || got[1] != b {
			t.Fatalf("%q and %q became %q", a, b, got)
		}
	})
	if names(prefixTask+"t_1/more", prefixTask, 1) != nil || names(prefixGrant+"t_1", prefixTask, 1) != nil {
		t.Error("a key that is not of the place was taken for one")
	}
}
