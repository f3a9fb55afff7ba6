package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/exeat-dev/exeat/client"
)

// withAPI runs fn on the task's own API within exeat run, else on the one of
// this machine's operator.
func withAPI(fn func(cmd *cobra.Command, args []string, api *client.Client) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		data, _ := cmd.Flags().GetString("data")
		api, err := apiFor(data, "")
		if err != nil {
			return err
		}
		defer api.Close()
		return fn(cmd, args, api)
	}
}

// withOperator runs fn on the API of this machine's operator, wherever it runs.
func withOperator(fn func(cmd *cobra.Command, args []string, api *client.Client) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		data, _ := cmd.Flags().GetString("data")
		api, err := operatorAPI(data)
		if err != nil {
			return err
		}
		defer api.Close()
		return fn(cmd, args, api)
	}
}

// operatorAPI is that of the operator of the exeatd on this machine.
func operatorAPI(data string) (*client.Client, error) {
	endpoints, err := client.ReadEndpoints(data)
	if err != nil {
		return nil, err
	}
	return client.NewLocal(endpoints.LocalSocket)
}

// output is -o: tables for people, or json.
type output string

func (o *output) flag(f *pflag.FlagSet) {
	f.StringVarP((*string)(o), "output", "o", "", "json for machines")
}

// check refuses what is neither, before anything is done.
func (o output) check() error {
	if o != "" && o != "json" {
		return fmt.Errorf("-o %s: want json, or leave it out", string(o))
	}
	return nil
}

func (o output) json() bool { return o == "json" }

// table writes rows under a head; columns are separated by tabs.
func table(w io.Writer, head string, rows []string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, head)
	for _, r := range rows {
		fmt.Fprintln(t, r)
	}
	t.Flush()
}

// moment is a time of today, or with its date.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	if time.Since(t).Abs() < 12*time.Hour {
		return clock(t)
	}
	return t.Local().Format("2006-01-02 15:04")
}

// dash stands for nothing.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
