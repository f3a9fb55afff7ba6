package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
	"github.com/oklog/ulid/v2"
)

// inUse names the file that says which grant a killed process uses.
func inUse(dir string) string { return dir + "-use" }

// Killed again and again between the spending of a use and the telling of it:
// a use may be lost, none is ever made.
func TestUsesAreExactWhenProcessesAreKilled(t *testing.T) {
	t.Parallel()
	const uses = 40
	dir := storetest.Dir(t)
	s := storetest.Open(t, storetest.WithDir(dir))
	storetest.Publish(t, s, storetest.Set())
	g, _ := limited(t, s, storetest.Task(t, s), uses)
	fatal(t, s.Close())
	fatal(t, os.WriteFile(inUse(dir), []byte(string(g.Task)+"/"+string(g.ID)), 0o600))

	allowed, rounds, exhausted := 0, 0, false
	for ; !exhausted; rounds++ {
		cmd, out := child(t, "use", dir)
		for n := 0; n < 7 && out.Scan(); n++ {
			switch line := out.Text(); line {
			case "allowed":
				allowed++
			case "exhausted":
				exhausted = true
			default:
				t.Fatal(line)
			}
		}
		_ = cmd.Process.Kill()
		for out.Scan() { // what it still said before it died was allowed as well
			if out.Text() == "allowed" {
				allowed++
			}
		}
		_ = cmd.Wait()
	}
	// Each kill may lose the use that was under way, and no other.
	if allowed > uses || allowed < uses-rounds {
		t.Errorf("%d of %d uses were allowed, over %d processes", allowed, uses, rounds)
	}
	if rounds < 3 {
		t.Errorf("only %d processes", rounds)
	}
}

// playUse uses the grant and tells of it, until it is killed.
func playUse(dir string) error {
	s, err := store.Open(context.Background(), store.Config{Dir: dir})
	if err != nil {
		return err
	}
	text, err := os.ReadFile(inUse(dir))
	if err != nil {
		return err
	}
	task, id, _ := strings.Cut(string(text), "/")
	g := policy.Grant{ID: policy.GrantID(id), Task: policy.TaskID(task)}
	for {
		switch _, err := s.Consume(context.Background(), useOf(g, ulid.Make().String())); {
		case errors.Is(err, store.ErrExhausted):
			fmt.Println("exhausted")
		case err != nil:
			return err
		default:
			fmt.Println("allowed")
		}
	}
}
