package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/backup"
)

func restoreCommand() *cobra.Command {
	var p place
	var in, members, to string
	cmd := &cobra.Command{
		Use:   "restore --in FILE (--data DIR | --config FILE | --members NAME=URL,... --to DIR)",
		Short: "Put a backup back; every task and grant in it has ended",
		Long: `Makes data folders from a backup: of an embedded store (--data, --config), or
one for each member of an etcd cluster (--members with their peer URLs, as in
etcd's --initial-cluster). A folder that holds a store is refused, and so is one
that a process uses.

Nothing that was revoked comes back: all tasks and grants of the backup have
ended, and agents start new ones. Suspensions that were made after the backup
are not in it; the audit log says which those were.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := restoration(in, members, to, p)
			if err != nil {
				return told(cmd, err)
			}
			report, err := backup.Restore(cmd.Context(), r)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "restored the backup of %s (revision %d, exeat %s): %d tasks and %d grants have ended\n",
				report.Backup.Made.Format(time.RFC3339), report.Backup.Revision, report.Backup.Exeat, report.Tasks, report.Grants)
			for _, folder := range report.Folders {
				fmt.Fprintln(cmd.OutOrStdout(), folder)
			}
			return nil
		},
	}
	p.register(cmd)
	f := cmd.Flags()
	f.StringVar(&in, "in", "", "backup to put back")
	f.StringVar(&members, "members", "", "all members of the cluster, NAME=PEER-URL by commas")
	f.StringVar(&to, "to", "", "folder under which each member gets its data folder")
	_ = cmd.MarkFlagRequired("in")
	return cmd
}

// restoration makes sense of the flags.
func restoration(in, members, to string, p place) (backup.Restoration, error) {
	r := backup.Restoration{In: in, To: to, Log: newLogger(p.cmd.ErrOrStderr(), false)}
	p = p.said(members)
	if members != "" {
		if to == "" || p.named() {
			return r, errors.New("--members goes with --to alone: want the folder under which the members' are made")
		}
		for m := range strings.SplitSeq(members, ",") {
			name, url, _ := strings.Cut(m, "=")
			r.Members = append(r.Members, backup.Member{Name: name, PeerURL: url})
		}
		return r, nil
	}
	if !p.named() {
		return r, errors.New("want --data, --config or --members: where is the backup to be put?")
	}
	f, err := p.find()
	if err != nil {
		return r, err
	}
	if f.store.Dir == "" {
		return r, fmt.Errorf("%s names a cluster: make its members' folders with --members and --to, and start etcd on them", p.config)
	}
	r.Dir = f.store.Dir
	if f.data != "" {
		seen := audit.SeenIn(filepath.Join(f.data, "audit"))
		r.Seen = store.State{Cluster: seen.Cluster, Epoch: seen.Epoch, Revision: seen.Revision}
	}
	return r, nil
}
