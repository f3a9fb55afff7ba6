package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/term"
)

// execute runs the command with exeat's own standard streams, passes signals
// on, and returns its exit code: 128 and the signal's number if one ended it,
// as shells say it.
func execute(args, environ []string, signals <-chan os.Signal) (int, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = os.Stdin, os.Stdout, os.Stderr, environ
	// "Tell it when its parent dies" is about the thread that starts it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = endWithUs()
	if err := cmd.Start(); err != nil {
		return startFailure(err), err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			if forward(s) {
				_ = cmd.Process.Signal(s) // it may have ended just now
			}
			if s == syscall.SIGTSTP { // for a shell, the job is stopped when we are
				_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
			}
		case err := <-done:
			return exitCode(cmd.ProcessState), ignoreExit(err)
		}
	}
}

func startFailure(err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return exitNotFound
	}
	return exitNotRunning
}

// forward reports whether the command must be told of a signal. It shares our
// terminal, which has sent it the keyboard's signals already, and the runtime
// uses SIGURG for itself.
func forward(s os.Signal) bool {
	switch s {
	case syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPIPE:
		return false
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP, syscall.SIGWINCH:
		return !term.IsTerminal(int(os.Stdin.Fd()))
	default:
		return true
	}
}

func exitCode(state *os.ProcessState) int {
	if w, ok := state.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return state.ExitCode()
}

// ignoreExit drops the error that only says what the exit code says.
func ignoreExit(err error) error {
	var e *exec.ExitError
	if errors.As(err, &e) {
		return nil
	}
	return err
}
