package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// fromEnvironment gives every flag that was not set on the command line the
// value of its variable: --audit-sync is EXEAT_AUDIT_SYNC.
func fromEnvironment(cmd *cobra.Command, _ []string) error {
	var errs []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "help" || f.Name == "version" {
			return
		}
		name := "EXEAT_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, set := os.LookupEnv(name)
		if !set || value == "" {
			return
		}
		if err := cmd.Flags().Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: not a value for --%s: %w", name, f.Name, err))
		}
		_ = cmd.Flags().SetAnnotation(f.Name, byVariable, nil) // the flag is there
	})
	return errors.Join(errs...)
}

// byVariable marks a flag whose value is its variable's.
const byVariable = "exeat/by-variable"

// onlyByVariable reports whether nobody gave the flag on the command line: what
// is set for all commands stands behind what is said to one.
func onlyByVariable(cmd *cobra.Command, flag string) bool {
	f := cmd.Flags().Lookup(flag)
	if f == nil {
		return false
	}
	_, marked := f.Annotations[byVariable]
	return marked
}
