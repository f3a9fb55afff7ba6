// Command demo runs Exeat's main job on real parts and tells the story: a real
// exeatd, a real Envoy, a ticket service that verifies what it is sent, and an
// agent in Python that knows no key. Each line is checked, not only printed.
package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/exeat-dev/exeat/examples/tickets/world"
)

//go:embed agent.py
var agent []byte

// limit bounds the whole demo.
const limit = 110 * time.Second

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	s := &story{out: os.Stdout}
	if err := tell(ctx, s); err != nil {
		s.failed++
		fmt.Fprintln(os.Stdout, "demo:", err)
	}
	fmt.Fprintf(os.Stdout, "demo: %d passed, %d failed\n", s.passed, s.failed)
	if s.failed > 0 {
		cancel()
		os.Exit(1)
	}
}

// tell starts the world, runs the agent in it, and checks what both saw.
func tell(ctx context.Context, s *story) (err error) {
	dir, err := os.MkdirTemp("", "exeat-demo-")
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	began := time.Now()
	log, err := os.Create(filepath.Join(dir, "exeatd.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	w, err := world.Start(ctx, world.Options{Bin: filepath.Dir(self), Dir: dir, Log: log})
	if err != nil {
		return fmt.Errorf("%w\nits log: %s", err, log.Name())
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	s.line("exeatd is ready in %d ms, with a catalog, an etcd that listens nowhere and a ticket service at tickets.example.org",
		time.Since(began).Milliseconds())
	run, err := runAgent(ctx, w, dir)
	if err != nil {
		return err
	}
	s.agent(ctx, w, run)
	s.record(ctx, w, run)
	return nil
}

// outcome is what the agent reported, by step, and what exeat run printed.
type outcome struct {
	steps  map[string]json.RawMessage
	stderr string
	code   int
	toRun  time.Duration // from exeat's start to the agent's first line
}

// runAgent runs the agent under `exeat run`, with an environment that holds a
// standing key, which must not reach it.
func runAgent(ctx context.Context, w *world.World, dir string) (*outcome, error) {
	script := filepath.Join(dir, "agent.py")
	if err := os.WriteFile(script, agent, 0o600); err != nil {
		return nil, err
	}
	cmd := w.Exeat(ctx, "run", "--agent", "triage", "--task", "demo", "--purpose", "show what Exeat does", "--",
		"python3", script, "OPS-42", "OPS-43")
	cmd.Env = append(cmd.Env, "OPENAI_API_KEY=sk-standing-key")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	o := &outcome{steps: map[string]json.RawMessage{}}
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var step struct{ Step string }
		if json.Unmarshal(lines.Bytes(), &step) != nil {
			continue
		}
		if len(o.steps) == 0 {
			o.toRun = time.Since(began)
		}
		o.steps[step.Step] = bytes.Clone(lines.Bytes())
	}
	err = cmd.Wait()
	o.stderr, o.code = stderr.String(), cmd.ProcessState.ExitCode()
	if err != nil {
		return o, fmt.Errorf("the agent failed: %w\n%s", err, o.stderr)
	}
	return o, nil
}
