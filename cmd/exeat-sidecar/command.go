package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/exeat-dev/exeat/sidecar"
)

// options are the flags.
type options struct {
	dev         string // the data folder of exeatd dev
	localSocket string
	agent       string
	readyFD     int
	dieWithMe   bool
	config      sidecar.Config
}

const long = `Runs Envoy beside an agent.

With exeatd dev on this machine, enrol by its data folder:

  exeat-sidecar --dev .exeat --agent triage

Elsewhere the identity comes from a SPIFFE Workload API, such as SPIRE's agent:

  exeat-sidecar --workload-socket unix:///run/spire/agent.sock \
    --grpc exeatd.example.org:8443 --api https://exeatd.example.org:8444

Envoy is looked for in EXEAT_ENVOY, beside this program, in .tools/ of a folder
above, and on PATH.`

func command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:           "exeat-sidecar",
		Short:         "Run Envoy beside an agent",
		Long:          long,
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.StringVar(&o.dev, "dev", "", "data `folder` of exeatd dev: enrol there (needs --agent)")
	f.StringVar(&o.localSocket, "local-socket", "", "`path` of exeatd's local socket: enrol there (needs --agent)")
	f.StringVar(&o.agent, "agent", "", "`name` of the agent that this sidecar serves")
	f.StringVar(&o.config.RunDir, "run-dir", "", "`folder` for sockets and the bootstrap, mode 0700 (default a temporary one)")
	f.StringVar(&o.config.BundleDir, "bundle-dir", "", "`folder` for the certificates that the agent trusts (default the run folder)")
	f.StringVar(&o.config.WorkloadSocket, "workload-socket", "", "SPIFFE Workload API: `path` or address")
	f.StringVar(&o.config.Instance, "instance", "", "own SPIFFE `ID`, when the Workload API gives several")
	f.StringVar(&o.config.GRPC, "grpc", "", "`host:port` of exeatd's role xds, several by commas")
	f.StringVar(&o.config.Authz, "authz", "", "`host:port` of exeatd's role authz, several by commas (default that of --grpc)")
	f.StringVar(&o.config.API, "api", "", "`URL` of exeatd's role api, several by commas")
	f.StringVar(&o.config.TrustDomain, "trust-domain", "", "`name` of the servers' trust domain (default the sidecar's own)")
	f.StringVar(&o.config.Egress, "egress", "127.0.0.1:0", "loopback `address` of the agent's proxy")
	f.StringVar(&o.config.APIListen, "api-listen", "127.0.0.1:0", "loopback `address` of the agent's API (EXEAT_URL)")
	f.DurationVar(&o.config.StartTimeout, "start-timeout", 30*time.Second, "longest time until ready")
	f.StringVar(&o.config.Envoy, "envoy", "", "`path` of the Envoy binary")
	f.IntVar(&o.readyFD, "ready-fd", 0, "write one JSON line to this file `descriptor` when ready, and keep it open")
	f.BoolVar(&o.dieWithMe, "die-with-parent", false, "end when the process that started this one ends")
	return cmd
}

func (o options) run(ctx context.Context) error {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	o.config.Log = log
	if o.readyFD != 0 {
		syscall.CloseOnExec(o.readyFD) // it is ours, not Envoy's
	}
	if o.dieWithMe {
		if err := dieWithParent(); err != nil {
			return err
		}
	}
	if err := o.enroll(ctx); err != nil {
		return err
	}
	var failed error
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	err := sidecar.Run(ctx, o.config, func(s sidecar.Status) {
		log.Info("sidecar ready", "proxy", s.Proxy, "api", s.API, "spiffe_id", s.Instance)
		if failed = o.tell(s); failed != nil {
			stop() // nobody would ever learn that it runs
		}
	})
	return errors.Join(err, failed)
}

// enroll asks exeatd for an identity, where it was told of one.
func (o *options) enroll(ctx context.Context) error {
	if o.dev == "" && o.localSocket == "" {
		if o.config.WorkloadSocket == "" {
			return errors.New("say where the identity comes from: --dev, --local-socket or --workload-socket")
		}
		return nil
	}
	if o.agent == "" {
		return errors.New("--agent is missing: whose sidecar is this?")
	}
	if o.localSocket == "" {
		socket, err := localSocketOf(o.dev)
		if err != nil {
			return err
		}
		o.localSocket = socket
	}
	ctx, cancel := context.WithTimeout(ctx, o.config.StartTimeout)
	defer cancel()
	enrolled, err := sidecar.Enroll(ctx, o.localSocket, o.agent)
	if err != nil {
		return err
	}
	enrolled.Apply(&o.config)
	return nil
}

// localSocketOf reads what exeatd dev wrote when it was ready.
func localSocketOf(data string) (string, error) {
	text, err := os.ReadFile(filepath.Join(data, "endpoints.json"))
	if err != nil {
		return "", fmt.Errorf("exeatd dev does not run with this data folder: %w", err)
	}
	var endpoints struct {
		LocalSocket string `json:"local_socket"`
	}
	if err := json.Unmarshal(text, &endpoints); err != nil || endpoints.LocalSocket == "" {
		return "", errors.New("the data folder's endpoints.json names no local socket")
	}
	return endpoints.LocalSocket, nil
}

// tell writes the status where the parent waits for it. The descriptor stays
// open: its end tells the parent that this process is gone.
func (o options) tell(s sidecar.Status) error {
	if o.readyFD == 0 {
		return nil
	}
	line, err := json.Marshal(s)
	if err != nil {
		return err
	}
	// Not an os.File: that would be closed when nothing refers to it.
	if _, err := syscall.Write(o.readyFD, append(line, '\n')); err != nil {
		return fmt.Errorf("--ready-fd: %w", err)
	}
	return nil
}
