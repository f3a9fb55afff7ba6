package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func serveCommand() *cobra.Command {
	var file string
	var o overrides
	cmd := &cobra.Command{
		Use:   "serve --config FILE [--roles api,xds,authz]",
		Short: "Run some or all roles in this process, over a shared store",
		Long: `Runs the named roles over an etcd cluster, or all of them over an etcd inside
this process. Servers get their certificates from a SPIFFE Workload API. Flags
stand above the file, and each has a variable: --roles is EXEAT_ROLES.

SIGTERM drains: what is under way may end, nothing new is taken.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return errors.New("--config FILE (or EXEAT_CONFIG) is missing; docs/serve.md explains the file")
			}
			s, err := loadConfig(file, o)
			if err != nil {
				return told(cmd, err)
			}
			return run(cmd.Context(), s, newLogger(cmd.ErrOrStderr(), s.verbose))
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "YAML file; exeatd config check FILE tells what is wrong with it")
	cmd.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "log at debug level")
	o.register(cmd)
	return cmd
}
