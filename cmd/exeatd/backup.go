package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/exeat-dev/exeat/catalog"
	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/server"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/backup"
)

// place is where a store is: dev's data folder, or what a file of exeatd serve
// says. Exactly one is given.
type place struct {
	data, config string
	cmd          *cobra.Command
}

func (p *place) register(cmd *cobra.Command) {
	p.cmd = cmd
	cmd.Flags().StringVar(&p.data, "data", "", "data folder of exeatd dev")
	cmd.Flags().StringVar(&p.config, "config", "", "file of exeatd serve; only its store and listen.local are read")
}

// found is a store's place: how to open it, and the socket of a process that
// may have it open.
type found struct {
	store  store.Config
	socket string
	data   string // where the audit log is, if known
}

// said drops what only variables say, if a flag says another thing.
func (p place) said(other string) place {
	if onlyByVariable(p.cmd, "data") && (p.config != "" && !onlyByVariable(p.cmd, "config") || other != "") {
		p.data = ""
	}
	if onlyByVariable(p.cmd, "config") && (p.data != "" || other != "") {
		p.config = ""
	}
	return p
}

func (p place) named() bool { return p.data != "" || p.config != "" }

func (p place) find() (found, error) {
	p = p.said("")
	switch {
	case p.data != "" && p.config != "":
		return found{}, errors.New("--data and --config name two stores: want one of them")
	case p.config != "":
		return findByConfig(p.config)
	}
	if p.data == "" {
		p.data = client.DataDir()
	}
	f := found{store: store.Config{Dir: filepath.Join(p.data, "etcd")}, data: p.data}
	if e, err := client.ReadEndpoints(p.data); err == nil {
		f.socket = e.LocalSocket
	}
	return f, nil
}

// findByConfig reads no more of a file than what is needed: a backup may be
// made where exeatd does not run.
func findByConfig(name string) (found, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return found{}, fmt.Errorf("read the configuration: %w", err)
	}
	c := &config{flags: map[string]string{}, roles: everyRole}
	c.Document = catalog.ReadDocument(name, text, &c.file)
	f := found{store: c.store(), socket: c.file.Listen.Local, data: c.file.Data}
	if errs := c.Errors(); len(errs) > 0 {
		return found{}, errs
	}
	return f, nil
}

func backupCommand() *cobra.Command {
	var p place
	var out string
	cmd := &cobra.Command{
		Use:   "backup --out FILE [--data DIR | --config FILE]",
		Short: "Copy the store into one file, as of one moment",
		Long: `Copies the store, of an etcd cluster or of a folder, whether or not exeatd runs.
The file is as secret as the store: it holds task credentials. The keys of roles
authz and xds are not in it and must be kept apart: without them nothing that is
sealed in the store can be read again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := p.find()
			if err != nil {
				return told(cmd, err)
			}
			info, err := backup.Save(out, version, func(w io.Writer) (int64, error) { return f.snapshot(cmd.Context(), w) })
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: revision %d, %d keys, %d bytes; the keys of roles authz and xds are not in it\n",
				out, info.Revision, info.Keys, info.Bytes)
			return nil
		},
	}
	p.register(cmd)
	cmd.Flags().StringVar(&out, "out", "", "file to write; must not be there")
	_ = cmd.MarkFlagRequired("out")
	return cmd
}

// snapshot copies the store: by itself, or through the process that has it.
func (f found) snapshot(ctx context.Context, w io.Writer) (int64, error) {
	if f.store.Dir == "" {
		return store.Snapshot(ctx, f.store, w)
	}
	if _, err := os.Stat(store.EtcdDir(f.store.Dir)); err != nil {
		return 0, fmt.Errorf("no store is at %s: name its folder with --data, or a file with --config", f.store.Dir)
	}
	latest, err := store.Snapshot(ctx, f.store, w)
	switch {
	case !errors.Is(err, store.ErrLocked):
		return latest, err
	case f.socket == "":
		return 0, fmt.Errorf("%w, and it serves no local socket: stop it, or set listen.local in its configuration", err)
	}
	return snapshotFrom(ctx, f.socket, w)
}

// snapshotFrom asks the process that has the store open.
func snapshotFrom(ctx context.Context, socket string, w io.Writer) (int64, error) {
	c := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://exeat/local/v1/snapshot", nil)
	if err != nil {
		return 0, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, fmt.Errorf("ask the running exeatd: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("the running exeatd answered %s: run this as the user that runs exeatd", resp.Status)
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return 0, fmt.Errorf("copy from the running exeatd: %w", err)
	}
	latest, err := strconv.ParseInt(resp.Trailer.Get(server.TrailerLatest), 10, 64)
	if err != nil {
		return 0, errors.New("the running exeatd broke off; its log says why")
	}
	return latest, nil
}

// told prints errors of a file as they are; any other is for main.
func told(cmd *cobra.Command, err error) error {
	if errs := (catalog.Errors)(nil); errors.As(err, &errs) {
		fmt.Fprintln(cmd.ErrOrStderr(), errs) // each line says where it is from
		return errTold
	}
	return err
}
