package credential

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
)

// The tests below run this binary again as the process that is killed.
const (
	envHelper = "EXEAT_CREDENTIAL_HELPER"
	envDir    = "EXEAT_CREDENTIAL_DIR"
	envGrant  = "EXEAT_CREDENTIAL_GRANT"
	envTask   = "EXEAT_CREDENTIAL_TASK"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(envHelper); what != "" {
		fmt.Fprintln(os.Stderr, victim(what))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// victim runs a manager until it is killed. It says on standard output when it
// has come to the place where it is to die.
func victim(what string) error {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Config{Dir: os.Getenv(envDir)})
	if err != nil {
		return err
	}
	issuer, err := OpenIssuer(ctx, IssuerConfig{Store: s, Key: testKey, URL: issuerURL})
	if err != nil {
		return err
	}
	cfg := Config{Store: s, Key: testKey, Issuer: issuer, Replica: "one"}
	if what == "in minting" {
		f := &fake{mint: func(ctx context.Context, _ Ask) (Minted, error) {
			fmt.Println("here")
			<-make(chan struct{})
			return Minted{}, nil
		}}
		f.use(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		return err
	}
	if what == "before revoking" {
		go func() { fmt.Fprintln(os.Stderr, endWhenMinted(s)) }()
		ctx, cancel := context.WithCancel(ctx)
		go func() { // the manager stops before the grant ends
			_, _ = s.Index().AwaitTask(ctx, policy.TaskID(os.Getenv(envTask)), hasCredential)
			cancel()
		}()
		if err := m.Run(ctx); err != nil {
			return err
		}
		<-make(chan struct{})
	}
	return m.Run(ctx)
}

func hasCredential(v *policy.TaskView) bool {
	return v != nil && len(v.Held) == 1 && v.Held[0].Credential != nil
}

func endWhenMinted(s *store.Store) error {
	ctx := context.Background()
	task, grant := policy.TaskID(os.Getenv(envTask)), policy.GrantID(os.Getenv(envGrant))
	if _, err := s.Index().AwaitTask(ctx, task, hasCredential); err != nil {
		return err
	}
	_, _, err := s.ChangeGrant(ctx, task, grant, func(g policy.Grant) (policy.Grant, error) {
		var err error
		g.Life, err = policy.Transition(g.Life, policy.Event{Kind: policy.EventEnd, Reason: policy.EndFailed}, s.Now())
		return g, err
	})
	fmt.Println("here")
	return err
}

// killed makes a grant in dir and runs a victim on it until it is where it dies.
func killed(t *testing.T, what string) (dir string, g policy.Grant) {
	t.Helper()
	dir = storetest.Dir(t)
	s := storetest.Open(t, storetest.WithDir(dir))
	storetest.Publish(t, s, storetest.Set())
	g = storetest.Grant(t, s, storetest.Task(t, s), storetest.ReadTicket, "OPS-42")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), envHelper+"="+what, envDir+"="+dir, envGrant+"="+string(g.ID), envTask+"="+string(g.Task))
	cmd.Stderr = t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "here\n" {
		t.Errorf("the victim said %q %v", line, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return dir, g
}

func TestKilledBetweenIntentAndHandle(t *testing.T) {
	t.Parallel()
	dir, g := killed(t, "in minting")
	w := newWorldOn(t, storetest.Open(t, storetest.WithDir(dir)), storetest.Set())
	if w.ledgerIsEmpty(g) {
		t.Fatal("nothing was written before minting")
	}
	m := w.manager(func(c *Config) { c.Replica = "one" })
	w.run(m)
	w.token(m, w.minted(g))
}

func TestKilledBeforeRevoking(t *testing.T) {
	t.Parallel()
	dir, g := killed(t, "before revoking")
	w := newWorldOn(t, storetest.Open(t, storetest.WithDir(dir)), storetest.Set())
	if w.ledgerIsEmpty(g) {
		t.Fatal("what is out was forgotten")
	}
	w.run(w.manager(func(c *Config) { c.Replica = "one" }))
	w.until("the ledger's end", func() bool { return w.ledgerIsEmpty(g) })
	got := w.events.of(g.ID, actionRevoked)
	if len(got) != 1 || got[0].Outcome != string(ExpiresOnly) || got[0].Handle == "" || got[0].Outlives == 0 {
		t.Errorf("revocations %+v", got)
	}
}

// The task and all its grants are forgotten before anyone revoked.
func TestALedgerEntryOutlivesItsGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.run(w.manager(func(c *Config) { c.Replica = "one" }))
	g := w.grant()
	w.minted(g)
	w.until("the handle", func() bool { return len(w.events.of(g.ID, actionMinted)) == 1 })
	stop()
	if _, _, err := w.store.ChangeTask(t.Context(), g.Task, func(task policy.Task) (policy.Task, error) {
		var err error
		task.Life, err = policy.Transition(task.Life, policy.Event{Kind: policy.EventEnd, Reason: policy.EndCompleted}, w.store.Now())
		return task, err
	}); err != nil {
		t.Fatal(err)
	}
	if err := w.store.DropTask(t.Context(), g.Task); err != nil {
		t.Fatal(err)
	}
	w.run(w.manager(func(c *Config) { c.Replica = "one" }))
	w.until("the ledger's end", func() bool { return w.ledgerIsEmpty(g) })
	if got := w.events.of(g.ID, actionRevoked); len(got) != 1 || got[0].Grant.Agent != storetest.Agent {
		t.Errorf("revocations %+v", got)
	}
}
