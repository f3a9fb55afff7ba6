package main

import (
	"io"
	"os"

	"golang.org/x/term"
)

// terminal is what this process's own user sees and an agent does not: standard
// error if it is a terminal, else the controlling one. nil when there is none: a
// file that standard error goes to may be read by an agent of the same user.
func terminal() io.Writer {
	if term.IsTerminal(int(os.Stderr.Fd())) {
		return os.Stderr
	}
	tty, err := os.OpenFile("/dev/tty", os.O_WRONLY, 0)
	if err != nil {
		return nil
	}
	return tty // open for as long as the process
}
