package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// envRole makes this test binary one of the programs below, so that a command
// under exeat run can be an ordinary Go program.
const envRole = "EXEAT_E2E_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(envRole); role != "" {
		os.Exit(programs[role](os.Args[1:]))
	}
	os.Exit(m.Run())
}

var programs = map[string]func(args []string) int{
	"get":  programGet,
	"hold": programHold,
}

// programGet prints the status and body of a URL, by Go's default client and
// whatever the environment says.
func programGet(args []string) int {
	resp, err := http.Get(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer resp.Body.Close()
	fmt.Println(resp.StatusCode)
	if _, err := io.Copy(os.Stdout, resp.Body); err != nil {
		return 1
	}
	return 0
}

// programHold says which task it is of, and then each signal that comes. SIGTERM
// ends it with 7, and the end of its input with 0.
func programHold([]string) int {
	told := make(chan os.Signal, 8)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	fmt.Println("holding", os.Getenv("EXEAT_TASK"))
	closed := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(closed)
	}()
	for {
		select {
		case s := <-told:
			fmt.Println(s)
			if s == syscall.SIGTERM {
				return 7
			}
		case <-closed:
			return 0
		}
	}
}
