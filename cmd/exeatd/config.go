package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/exeat-dev/exeat/catalog"
)

// fileConfig is the file of `exeatd serve`. One file may serve processes of
// different roles: what a process's roles do not need is not looked at.
type fileConfig struct {
	Roles    []string  `json:"roles"`
	Replica  string    `json:"replica"`
	Data     string    `json:"data"`
	Store    fileStore `json:"store"`
	Identity struct {
		WorkloadSocket string `json:"workloadSocket"`
		TrustDomain    string `json:"trustDomain"`
	} `json:"identity"`
	Listen struct {
		API     string `json:"api"`
		GRPC    string `json:"grpc"`
		Metrics string `json:"metrics"`
		Local   string `json:"local"`
	} `json:"listen"`
	Issuer string `json:"issuer"`
	Keys   struct {
		Authz string `json:"authz"`
		XDS   string `json:"xds"`
	} `json:"keys"`
	Catalog struct {
		Dir     string `json:"dir"`
		Secrets string `json:"secrets"`
		// Policies come from a bundle instead of the folder's own.
		Policies struct {
			Bundle string `json:"bundle"`
			Keys   string `json:"keys"`
			CA     string `json:"ca"`
		} `json:"policies"`
	} `json:"catalog"`
	Audit struct {
		Sync string `json:"sync"`
	} `json:"audit"`
	Notify struct {
		URL        string `json:"url"`
		SecretFile string `json:"secretFile"`
		Format     string `json:"format"`
	} `json:"notify"`
	Drain         *metav1.Duration `json:"drain"`
	ConnectionAge *metav1.Duration `json:"connectionAge"`
}

// fileStore is where the state is: a cluster's endpoints, or a folder.
type fileStore struct {
	Endpoints []string `json:"endpoints"`
	TLS       *fileTLS `json:"tls"`
	Dir       string   `json:"dir"`
	// Staleness is promise 8's bound.
	Staleness *metav1.Duration `json:"staleness"`
}

// fileTLS is how etcd is spoken to: mutual TLS, always.
type fileTLS struct {
	CA   string `json:"ca"`
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

// overrides are the flags of `exeatd serve` that stand above the file.
type overrides struct {
	roles, replica, data      string
	api, grpc, metrics, local string
	verbose                   bool
}

// config is a file under examination.
type config struct {
	*catalog.Document
	file  fileConfig
	roles roles
	// flags names the flag that gave a field its value.
	flags map[string]string
}

// loadConfig reads a file and checks all of it. Its error is catalog.Errors.
func loadConfig(name string, o overrides) (settings, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return settings{}, fmt.Errorf("read the configuration: %w", err)
	}
	c := &config{flags: map[string]string{}}
	c.Document = catalog.ReadDocument(name, text, &c.file)
	c.override(o)
	s := c.check()
	s.verbose = o.verbose
	if errs := c.Errors(); len(errs) > 0 {
		return settings{}, errs
	}
	return s, nil
}

// override puts flags over what the file says.
func (c *config) override(o overrides) {
	f := &c.file
	if o.roles != "" {
		f.Roles, c.flags["roles"] = strings.Split(o.roles, ","), "--roles"
	}
	for _, x := range []struct {
		to                 *string
		value, field, flag string
	}{
		{&f.Replica, o.replica, "replica", "--replica"}, {&f.Data, o.data, "data", "--data"},
		{&f.Listen.API, o.api, "listen.api", "--api"}, {&f.Listen.GRPC, o.grpc, "listen.grpc", "--grpc"},
		{&f.Listen.Metrics, o.metrics, "listen.metrics", "--metrics"}, {&f.Listen.Local, o.local, "listen.local", "--local"},
	} {
		if x.value != "" {
			*x.to, c.flags[x.field] = x.value, x.flag
		}
	}
}

// fail reports a field where it was written, be that in the file or a flag.
func (c *config) fail(field, format string, args ...any) {
	if flag, ok := c.flags[field]; ok {
		format = flag + " gives it: " + format
	}
	c.Fail(field, format, args...)
}

func configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Work with the file of exeatd serve"}
	var o overrides
	check := &cobra.Command{
		Use:   "check FILE",
		Short: "Print every error of a configuration: file, line, field and what would be right",
		Long: `Reads the file as exeatd serve --config FILE would on this machine, with the
same flags and variables, and prints all that is wrong at once. Exits 1 if
anything is.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := loadConfig(args[0], o)
			if err != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), err)
				return errTold
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: no errors; roles %s\n", args[0], s.roles)
			return nil
		},
	}
	o.register(check)
	cmd.AddCommand(check)
	return cmd
}

// register adds the flags that stand above the file.
func (o *overrides) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.roles, "roles", "", "roles of this process, by commas: api, xds, authz (the file's when empty)")
	f.StringVar(&o.replica, "replica", "", "name of this process in logs and in the store (the file's; else the host's name and the roles)")
	f.StringVar(&o.data, "data", "", "folder of this process alone, for its audit log (the file's when empty)")
	f.StringVar(&o.api, "api", "", "address of the HTTP API (the file's listen.api when empty)")
	f.StringVar(&o.grpc, "grpc", "", "address of xDS, ext_authz and access logs (the file's listen.grpc when empty)")
	f.StringVar(&o.metrics, "metrics", "", "address of /livez, /readyz and /metrics (the file's listen.metrics when empty)")
	f.StringVar(&o.local, "local", "", "Unix socket of the operator's API (the file's listen.local when empty)")
}

func keygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen FILE",
		Short: "Make a sealing key for role authz or xds",
		Long: `Writes 32 random bytes, readable by this user alone, and refuses a file that is
there. Every process of one role shares that role's key; the two roles' keys differ.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := os.Lstat(args[0]); err == nil {
				return fmt.Errorf("%s is there already: what it sealed could not be read with another", args[0])
			}
			if err := makeKey(args[0]); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), filepath.Clean(args[0]))
			return nil
		},
	}
}
