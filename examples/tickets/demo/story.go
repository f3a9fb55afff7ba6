package main

import (
	"encoding/json"
	"fmt"
	"io"
)

// story prints one numbered line for each thing that was checked.
type story struct {
	out            io.Writer
	passed, failed int
}

// line tells something that has been checked by getting here.
func (s *story) line(format string, args ...any) { s.check(nil, format, args...) }

// check tells what was found: right when problem is nil.
func (s *story) check(problem error, format string, args ...any) {
	mark := "ok  "
	if problem != nil {
		mark = "FAIL"
		s.failed++
	} else {
		s.passed++
	}
	fmt.Fprintf(s.out, "%2d %s  %s\n", s.passed+s.failed, mark, fmt.Sprintf(format, args...))
	if problem != nil {
		fmt.Fprintf(s.out, "           %v\n", problem)
	}
}

// step reads what the agent reported of a step.
func step[T any](o *outcome, name string) (T, error) {
	var v T
	raw, ok := o.steps[name]
	if !ok {
		return v, fmt.Errorf("the agent did not get to step %q; exeat run said:\n%s", name, o.stderr)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, fmt.Errorf("step %q: %w", name, err)
	}
	return v, nil
}

// want gives an error unless ok.
func want(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}
