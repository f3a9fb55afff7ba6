package identity

import (
	"bytes"
	"errors"
	"os"
	"strconv"
)

// startTime reads /proc/PID/stat (proc_pid_stat(5)). The second field is the
// program's name, which may hold blanks and brackets: what counts comes after
// the last closing one.
func startTime(pid int) (uint64, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, errGone
	}
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, errors.New("the process's state cannot be read")
	}
	fields := bytes.Fields(stat[end+1:])
	const state, start = 0, 19 // fields 3 and 22
	if len(fields) <= start {
		return 0, errors.New("the process's state cannot be read")
	}
	if s := fields[state][0]; s == 'Z' || s == 'X' || s == 'x' {
		return 0, errGone // what is left of it holds nothing
	}
	return strconv.ParseUint(string(fields[start]), 10, 64)
}

// bootID names what start times are relative to: this boot, this PID namespace.
func bootID() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(boot)) + " " + space
}
