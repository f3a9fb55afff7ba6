package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/exeat-dev/exeat/catalog"
)

func catalogCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "catalog", Short: "Work with a catalog's files"}
	cmd.AddCommand(catalogCheckCommand())
	return cmd
}

func catalogCheckCommand() *cobra.Command {
	var secrets string
	var form output
	cmd := &cobra.Command{
		Use:   "check DIR",
		Short: "Print every error of a catalog: file, line, field and what would be right",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := form.check(); err != nil {
				return err
			}
			return checkCatalog(cmd, args[0], secrets, form.json())
		},
	}
	cmd.Flags().StringVar(&secrets, "secrets", "", "folder under which file references lie (DIR when empty)")
	form.flag(cmd.Flags())
	return cmd
}

// checkCatalog exits 1 when anything is wrong, having printed all of it.
func checkCatalog(cmd *cobra.Command, dir, secrets string, asJSON bool) error {
	set, errs := catalog.Load(dir, secrets)
	if asJSON {
		if errs == nil {
			errs = catalog.Errors{}
		}
		if err := json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"errors": errs}); err != nil {
			return err
		}
	}
	if len(errs) > 0 {
		if !asJSON {
			fmt.Fprintln(cmd.ErrOrStderr(), errs)
		}
		return &exit{code: exitFailed}
	}
	if !asJSON {
		fmt.Fprintf(cmd.OutOrStdout(), "%s: no errors; %d agents, %d destinations, %d providers, %d capabilities, %d policies\n",
			dir, len(set.Agents), len(set.Destinations), len(set.Providers), len(set.Capabilities), len(set.Policies))
	}
	return nil
}
