package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/exeat-dev/exeat/catalog"
	"github.com/exeat-dev/exeat/policy/rego"
	"github.com/exeat-dev/exeat/policy/rego/suite"
)

func policyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "Test and try policies in Rego"}
	cmd.AddCommand(policyTestCommand(), policyTryCommand(), policySchemaCommand(), policyCapabilitiesCommand())
	return cmd
}

func policySchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:       "schema {issue|call}",
		Short:     "Print the JSON Schema of what exeat.issue or exeat.call is asked with",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"issue", "call"},
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := cmd.OutOrStdout().Write(rego.Schema(args[0]))
			return err
		},
	}
}

func policyCapabilitiesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "capabilities",
		Short: "Print what policies may call, for opa check --capabilities",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			enc := json.NewEncoder(cmd.OutOrStdout())
			enc.SetIndent("", "  ")
			return enc.Encode(rego.Capabilities())
		},
	}
}

// policyTestOptions are the flags of `exeat policy test`.
type policyTestOptions struct {
	filter  string
	output  output
	least   float64
	verbose bool
}

func policyTestCommand() *cobra.Command {
	var o policyTestOptions
	cmd := &cobra.Command{
		Use:   "test DIR",
		Short: "Run the tests of policies: rules test_* in files *_test.rego",
		Long: `Checks the policies as a catalog's are checked, runs their tests and shows which
lines no test ran. DIR is a catalog, or any folder of *.rego files. Exits 1 when
a test fails, none ran, or the coverage is below --coverage.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.output.check(); err != nil {
				return err
			}
			return testPolicies(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0], o)
		},
	}
	cmd.Flags().StringVarP(&o.filter, "run", "r", "", "run only tests whose name this expression (RE2) matches")
	cmd.Flags().Float64Var(&o.least, "coverage", 0, "least coverage of all lines, in percent")
	o.output.flag(cmd.Flags())
	cmd.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "show what tests print, passed ones too")
	return cmd
}

func testPolicies(ctx context.Context, out, complaints io.Writer, dir string, o policyTestOptions) error {
	modules, errs := catalog.Policies(dir)
	if len(errs) == 0 && len(modules) == 0 {
		return fmt.Errorf("%s: holds no *.rego file, and no folder policies with any", dir)
	}
	var report suite.Report
	if len(errs) == 0 {
		var problems []rego.Problem
		var err error
		if report, problems, err = suite.Run(ctx, modules, o.filter); err != nil {
			return err
		}
		errs = catalog.PolicyErrors(problems)
	}
	if len(errs) > 0 {
		if o.output.json() {
			_ = json.NewEncoder(out).Encode(map[string]any{"errors": errs})
		} else {
			fmt.Fprintln(complaints, errs)
		}
		return &exit{code: exitFailed}
	}
	if o.output.json() {
		if err := json.NewEncoder(out).Encode(report); err != nil {
			return err
		}
	} else {
		writeReport(out, report, o.verbose)
	}
	return verdictOf(report, o)
}

// verdictOf says why a run that could be made is not good.
func verdictOf(r suite.Report, o policyTestOptions) error {
	switch {
	case len(r.Tests) == 0:
		return &exit{exitFailed, fmt.Errorf("no test ran: write rules test_* in *_test.rego")}
	case r.Failed():
		return &exit{code: exitFailed}
	case r.Coverage < o.least:
		return &exit{exitFailed, fmt.Errorf("the tests run %.1f%% of the lines; want %.1f%%", r.Coverage, o.least)}
	}
	return nil
}
