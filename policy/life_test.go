package policy

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTransition(t *testing.T) {
	t.Parallel()
	var (
		hour    = t0.Add(time.Hour)
		later   = t0.Add(2 * time.Hour)
		pending = Begin(t0, hour)
		active  = Life{State: Active, Began: t0, Activated: t0, Until: hour}
		paused  = Life{State: Paused, Began: t0, Activated: t0, Until: hour}
		beating = Life{State: Active, Began: t0, Activated: t0, Until: hour, BeatBy: t0.Add(time.Minute)}
		ended   = Life{State: Ended, Began: t0, EndedAt: t0, End: EndCompleted}
	)
	for _, tt := range []struct {
		why   string
		from  Life
		event Event
		now   time.Time
		want  State
		end   EndReason
		at    time.Time
		err   error
	}{
		{why: "what is asked for becomes active", from: pending, event: Activate(hour), now: t0, want: Active},
		{why: "it does not until a time that has passed", from: pending, event: Activate(t0), now: t0, want: Pending, err: ErrTransition},
		{why: "nor once the request has expired", from: pending, event: Activate(later), now: hour, want: Pending, err: ErrTransition},
		{why: "a request may have no expiry", from: Life{State: Pending, Began: t0}, event: Activate(hour), now: t0, want: Active},
		{why: "a request is withdrawn", from: pending, event: End(EndWithdrawn), now: t0, want: Ended, end: EndWithdrawn, at: t0},
		{why: "a request that expired did so then", from: pending, event: End(EndWithdrawn), now: later, want: Ended, end: EndRequestExpired, at: hour},
		{why: "what is active is revoked", from: active, event: End(EndRevoked), now: t0.Add(1), want: Ended, end: EndRevoked, at: t0.Add(1)},
		{why: "what expired did so then", from: active, event: End(EndCompleted), now: later, want: Ended, end: EndExpired, at: hour},
		{why: "a paused task expires as well", from: paused, event: End(EndCompleted), now: hour, want: Ended, end: EndExpired, at: hour},
		{why: "an end before the beginning is at the beginning", from: active, event: End(EndFailed), now: t0.Add(-time.Hour), want: Ended, end: EndFailed, at: t0},
		{why: "nothing ends for no reason", from: active, event: End(""), now: t0, want: Active, err: ErrTransition},
		{why: "nor for a reason that is none", from: active, event: End("because"), now: t0, want: Active, err: ErrTransition},
		{why: "what is active is paused", from: active, event: Event{Kind: EventPause}, now: t0, want: Paused},
		{why: "and resumed", from: paused, event: Event{Kind: EventResume}, now: t0, want: Active},
		{why: "but not once its time ran out", from: paused, event: Event{Kind: EventResume}, now: hour, want: Paused, err: ErrTransition},
		{why: "what is active is not activated again", from: active, event: Activate(later), now: t0, want: Active, err: ErrTransition},
		{why: "what is active is not resumed", from: active, event: Event{Kind: EventResume}, now: t0, want: Active, err: ErrTransition},
		{why: "a request is not paused", from: pending, event: Event{Kind: EventPause}, now: t0, want: Pending, err: ErrTransition},
		{why: "a heartbeat keeps it", from: beating, event: Beat(t0.Add(2 * time.Minute)), now: t0.Add(30 * time.Second), want: Active},
		{why: "one that is paused too", from: Life{State: Paused, Began: t0, Until: hour, BeatBy: hour}, event: Beat(hour.Add(-1)), now: t0, want: Paused},
		{why: "but not until a time that has passed", from: beating, event: Beat(t0), now: t0, want: Active, err: ErrTransition},
		{why: "nor once it is lost", from: beating, event: Beat(hour), now: t0.Add(time.Minute), want: Active, err: ErrTransition},
		{why: "nor where none is expected", from: active, event: Beat(hour), now: t0, want: Active, err: ErrTransition},
		{why: "nor a request", from: Life{State: Pending, Began: t0, Until: hour, BeatBy: hour}, event: Beat(hour), now: t0, want: Pending, err: ErrTransition},
		{why: "what has ended takes none", from: ended, event: Beat(hour), now: t0, want: Ended, end: EndCompleted, at: t0, err: ErrEnded},
		{why: "what lost its heartbeat failed then", from: beating, event: End(EndCompleted), now: later, want: Ended, end: EndFailed, at: t0.Add(time.Minute)},
		{why: "its own time comes first if it is first", from: Life{State: Active, Began: t0, Until: hour, BeatBy: later}, event: End(EndRevoked), now: later, want: Ended, end: EndExpired, at: hour},
		{why: "what lost its heartbeat is not paused", from: beating, event: Event{Kind: EventPause}, now: t0.Add(time.Minute), want: Active, err: ErrTransition},
		{why: "no event changes nothing", from: active, event: Event{}, now: t0, want: Active, err: ErrTransition},
		{why: "what never began cannot end", from: Life{}, event: End(EndRevoked), now: t0, want: StateNone, err: ErrTransition},
		{why: "what never began cannot be activated", from: Life{}, event: Activate(hour), now: t0, want: StateNone, err: ErrTransition},
		{why: "what ended stays so", from: ended, event: Activate(hour), now: t0, want: Ended, end: EndCompleted, at: t0, err: ErrEnded},
		{why: "and for the reason that it had", from: ended, event: End(EndRevoked), now: later, want: Ended, end: EndCompleted, at: t0, err: ErrEnded},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			got, err := Transition(tt.from, tt.event, tt.now)
			if !errors.Is(err, tt.err) || tt.err == nil && err != nil {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			if got.State != tt.want || got.End != tt.end || !got.EndedAt.Equal(tt.at) {
				t.Errorf("%+v", got)
			}
			if err != nil && got != tt.from {
				t.Errorf("changed with an error: %+v", got)
			}
		})
	}
}

func TestNoHistoryLeavesAnEndedState(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		clock := rapid.Custom(func(t *rapid.T) time.Time {
			return t0.Add(time.Duration(rapid.IntRange(-100, 100).Draw(t, "s")) * time.Second)
		})
		l := Begin(clock.Draw(t, "began"), clock.Draw(t, "until"))
		if rapid.Bool().Draw(t, "heartbeat") {
			l.BeatBy = clock.Draw(t, "beat by")
		}
		for range rapid.IntRange(1, 30).Draw(t, "events") {
			now := clock.Draw(t, "now")
			e := Event{
				Kind:   EventKind(rapid.IntRange(0, int(EventBeat)+1).Draw(t, "kind")),
				Until:  clock.Draw(t, "until"),
				Reason: rapid.SampledFrom([]EndReason{EndCompleted, EndRevoked, EndExpired, "", "other"}).Draw(t, "reason"),
			}
			next, err := Transition(l, e, now)
			checkStep(t, l, next, now, err)
			l = next
		}
	})
}

func checkStep(t *rapid.T, l, next Life, now time.Time, err error) {
	switch {
	case l.State == Ended && (next != l || !errors.Is(err, ErrEnded)):
		t.Fatalf("%+v became %+v, %v", l, next, err)
	case err != nil && next != l:
		t.Fatalf("changed with %v", err)
	case next.State == Ended && (next.Live(now) || next.End == "" || next.EndedAt.Before(next.Began)):
		t.Fatalf("ended as %+v", next)
	case !l.Live(now) && next.Live(now) && l.Over(now):
		t.Fatalf("came back: %+v to %+v at %v", l, next, now)
	case next.State == Ended && l.State != Ended && l.ranOut(now) && next.End != endOf(l):
		t.Fatalf("ran out as %s: %+v", next.End, l)
	case next.State == Active && next.Activated.IsZero():
		t.Fatalf("active without a time: %+v", next)
	}
}

// endOf is why a life ends by itself, by the plainest means.
func endOf(l Life) EndReason {
	switch {
	case !l.BeatBy.IsZero() && l.BeatBy.Before(l.Until):
		return EndFailed
	case l.State == Pending:
		return EndRequestExpired
	}
	return EndExpired
}

func TestStates(t *testing.T) {
	t.Parallel()
	if (Life{}).Live(t0) || (Life{State: Active}).Live(t0) || (Life{}).Over(t0) {
		t.Error("the zero life is live or over")
	}
	if got := Active.String() + " " + Ended.String() + " " + State(200).String(); got != "active ended paused" {
		t.Errorf("states read %q; an unknown one must not read as active", got)
	}
	for _, id := range []TaskID{"", "t_", "t_1", "g_01J00000000000000000000001", "t_81J00000000000000000000001", "t_01J0000000000000000000000I"} {
		if id.Valid() {
			t.Errorf("%q is valid", id)
		}
	}
	if !t1.Valid() || !g1.Valid() {
		t.Error("an ID is not valid")
	}
}
