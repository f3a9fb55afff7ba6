package identity

import "errors"

// process is one run of a program: a PID is used again, but not with the same
// start time.
type process struct {
	pid   int
	start uint64 // in clock ticks since boot (proc_pid_stat(5), starttime)
}

var errGone = errors.New("the process has ended")

// processOf finds the process that has a PID now.
func processOf(pid int) (process, error) {
	if pid <= 0 { // what SO_PEERCRED says of a process in a namespace that we cannot see
		return process{}, errGone
	}
	start, err := startTime(pid)
	return process{pid: pid, start: start}, err
}

// verify fails unless the process still runs.
func (p process) verify() error {
	now, err := processOf(p.pid)
	if err != nil {
		return err
	}
	if now != p {
		return errGone
	}
	return nil
}
