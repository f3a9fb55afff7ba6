package sidecar

import (
	"errors"
	"log/slog"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// child is one run of Envoy.
type child struct {
	output *logWriter
	signal func(hard bool)
	ended  chan struct{} // closed when it has ended and was reaped
	err    error         // why it ended; read after ended
}

// startEnvoy runs Envoy until it ends by itself or is stopped. The gate is open
// for it from its first instruction to its last.
func startEnvoy(path, bootstrap string, g *gate, log *slog.Logger) (*child, error) {
	c := &child{output: &logWriter{log: log}, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel's "kill it when its parent dies" is about the thread that
		// started it: this one stays until Envoy is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		cmd := envoyCommand(path, bootstrap)
		cmd.Stdout, cmd.Stderr = c.output, c.output
		err := g.open(func() (int, error) {
			if err := cmd.Start(); err != nil {
				return 0, err
			}
			return cmd.Process.Pid, nil
		})
		if err == nil {
			confine(cmd.Process.Pid)
			c.signal = func(hard bool) { signalGroup(cmd.Process.Pid, hard) }
		}
		started <- err
		if err != nil {
			return
		}
		c.err = reap(cmd, g.close)
		close(c.ended)
	}()
	return c, <-started
}

// envoyCommand inherits nothing: not the environment, not the folder.
func envoyCommand(path, bootstrap string) *exec.Cmd {
	cmd := exec.Command(path,
		"--config-path", bootstrap,
		"--concurrency", "1",
		"--drain-time-s", "0", // what is removed is cut, not drained
		"--disable-hot-restart",
		"--log-level", envoyLogLevel,
		// misc warns once per message of an unfinished API in each update; the
		// ranges that DNS must not lead to are such messages, many per chain.
		"--component-log-level", "misc:error",
		"--log-format", envoyLogFormat)
	cmd.Env = []string{}
	cmd.Dir = filepath.Dir(bootstrap)
	cmd.SysProcAttr = childAttributes()
	return cmd
}

// stop asks Envoy to end, makes it after patience, and waits until it has.
func (c *child) stop(patience time.Duration) {
	c.signal(false)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c.ended:
		return
	case <-timer.C:
	}
	c.signal(true)
	<-c.ended
}

var errExitedCleanly = errors.New("it ended by itself")

// cause is why it ended; read after ended.
func (c *child) cause() error {
	if c.err == nil {
		return errExitedCleanly
	}
	return c.err
}
